// A certified OpenID provider with one client, made-up people, and forms to sign in: `oidc_provider.mjs PORT`.
// POST /control/client {"redirect_uri": …} says where its client is; POST /control/rotate has it sign with a new key.
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { pathToFileURL } from 'node:url';

const load = (name) => import(pathToFileURL(`${process.env.COUNTERPART_MODULES}/${name}`).href);
const { default: Provider } = await load('oidc-provider/lib/index.js');

const port = Number(process.argv[2]);
const issuer = `http://127.0.0.1:${port}`;
const people = { 'u-1': 'Ada', 'u-2': 'Bo' };

const makeKey = () => ({
  ...generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' }),
  kid: randomUUID(),
  use: 'sig',
  alg: 'RS256',
});

const keys = [makeKey()];
let redirectUri = 'http://homeroom.test/nowhere';

const findAccount = (_, id) => ({
  accountId: id,
  claims: () => ({ sub: id, given_name: people[id], family_name: 'Berg', sourcedId: id.replace('u', 's') }),
});

const build = () => new Provider(issuer, {
  clients: [{
    client_id: 'homeroom',
    client_secret: 'upstream-secret-0123456789',
    redirect_uris: [redirectUri],
    grant_types: ['authorization_code'],
    response_types: ['code'],
    id_token_signed_response_alg: 'RS256',
  }],
  claims: { openid: ['sub'], profile: ['given_name', 'family_name', 'sourcedId'] },
  cookies: { keys: ['made-up'] },
  findAccount,
  jwks: { keys },
  pkce: { required: () => true },
  ttl: { AccessToken: 600, AuthorizationCode: 60, Grant: 600, IdToken: 600, Interaction: 600, Session: 600 },
}).callback();

let answer = build();

createServer(async (request, response) => {
  if (request.method === 'POST' && request.url.startsWith('/control/')) {
    let body = '';
    for await (const piece of request) body += piece;
    if (request.url === '/control/client') redirectUri = JSON.parse(body).redirect_uri;
    else keys.unshift(makeKey());
    answer = build();
    response.writeHead(204).end();
    return;
  }
  answer(request, response);
}).listen(port, '127.0.0.1');
