// A product made with a certified OpenID client: `openid_client.mjs PORT ISSUER CLIENT_ID CLIENT_SECRET`.
// GET /begin says where the browser goes; GET /signed-in takes it back and says what was learned; GET /refresh goes on;
// GET /end says where the browser goes to sign out; POST /out takes logout tokens, and GET /told says which.
import { createServer } from 'node:http';
import { pathToFileURL } from 'node:url';

const load = (name) => import(pathToFileURL(`${process.env.COUNTERPART_MODULES}/${name}`).href);
const client = await load('openid-client/build/index.js');
const jose = await load('jose/dist/webapi/index.js');

const [port, issuer, clientId, clientSecret] = process.argv.slice(2);
const origin = `http://127.0.0.1:${port}`;
const redirectUri = `${origin}/signed-in`;
const pending = new Map();
const told = [];
let configuration;
let tokens;

const discover = async () => {
  const authentication = clientSecret ? client.ClientSecretBasic(clientSecret) : client.None();
  configuration ??= await client.discovery(new URL(issuer), clientId, undefined, authentication, {
    execute: [client.allowInsecureRequests],
  });
  return configuration;
};

const routes = {
  'GET /': async () => ({}),
  'GET /begin': async (url) => {
    const [verifier, state, nonce] = [client.randomPKCECodeVerifier(), client.randomState(), client.randomNonce()];
    pending.set(state, { verifier, nonce });
    return {
      url: client.buildAuthorizationUrl(await discover(), {
        redirect_uri: redirectUri,
        scope: url.searchParams.get('scope') ?? 'openid profile roster',
        code_challenge: await client.calculatePKCECodeChallenge(verifier),
        code_challenge_method: 'S256',
        state,
        nonce,
      }).href,
    };
  },
  'GET /signed-in': async (url) => {
    const state = url.searchParams.get('state');
    const { verifier, nonce } = pending.get(state) ?? {};
    tokens = await client.authorizationCodeGrant(await discover(), url, {
      pkceCodeVerifier: verifier,
      expectedNonce: nonce,
      expectedState: state,
      idTokenExpected: true,
    });
    const claims = tokens.claims();
    return { claims, userinfo: await client.fetchUserInfo(configuration, tokens.access_token, claims.sub) };
  },
  'GET /refresh': async () => {
    const before = tokens.refresh_token;
    const idToken = tokens.id_token;
    tokens = await client.refreshTokenGrant(await discover(), before);
    const claims = tokens.claims();
    tokens.id_token ??= idToken;
    return { claims, rotated: tokens.refresh_token !== before };
  },
  'GET /introspect': async () => client.tokenIntrospection(await discover(), tokens.access_token),
  'GET /end': async () => ({
    url: client.buildEndSessionUrl(await discover(), {
      id_token_hint: tokens.id_token,
      post_logout_redirect_uri: `${origin}/bye`,
      state: 'over',
    }).href,
  }),
  'POST /out': async (url, body) => {
    const keys = jose.createRemoteJWKSet(new URL((await discover()).serverMetadata().jwks_uri));
    const options = { issuer, audience: clientId, typ: 'logout+jwt', algorithms: ['RS256'] };
    const { payload } = await jose.jwtVerify(new URLSearchParams(body).get('logout_token'), keys, options);
    told.push(payload);
    return {};
  },
  'GET /told': async () => told,
};

createServer(async (request, response) => {
  const url = new URL(request.url, origin);
  let body = '';
  for await (const piece of request) body += piece;
  let status = 200;
  let answer;
  try {
    answer = await routes[`${request.method} ${url.pathname}`](url, body);
  } catch (error) {
    [status, answer] = [400, { error: error.error ?? error.code, message: String(error.cause ?? error) }];
  }
  response.writeHead(status, { 'content-type': 'application/json', connection: 'close' });
  response.end(JSON.stringify(answer));
}).listen(Number(port), '127.0.0.1');
