-- Homeroom as OpenID provider: what products ask for and are given.

-- What a portal's launch gives a product to begin its own sign-in with (`login_hint`), used once.
CREATE UNLOGGED TABLE login_hint (
    hash        bytea PRIMARY KEY,
    session_id  uuid NOT NULL,
    launch_id   uuid NOT NULL,
    support_id  text NOT NULL,
    product_id  uuid NOT NULL,
    destination text,
    expires_at  timestamptz NOT NULL
);
CREATE INDEX ON login_hint (expires_at);

-- A product's request while somebody signs in for it.
CREATE UNLOGGED TABLE authorization_request (
    hash       bytea PRIMARY KEY,
    client_id  text NOT NULL,
    request    jsonb NOT NULL,                 -- `sso.provider.requests.AuthorizationRequest`
    launch_id  uuid NOT NULL,
    support_id text NOT NULL,
    purpose    text NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX ON authorization_request (expires_at);

-- Codes that were not redeemed yet. In a crash they are lost, which costs a click; what was redeemed is in
-- `product_grant`, so that no code ever counts twice.
CREATE UNLOGGED TABLE authorization_code (
    hash         bytea PRIMARY KEY,
    client_id    text NOT NULL,
    redirect_uri text NOT NULL,
    challenge    text NOT NULL,                -- PKCE, S256
    nonce        text,
    scopes       text[] NOT NULL,
    session_id   uuid NOT NULL,
    subject      text NOT NULL,
    claims       jsonb NOT NULL,               -- what the ID token will say of them; gone with the code
    launch_id    uuid NOT NULL,
    support_id   text NOT NULL,
    purpose      text NOT NULL,
    kind         text NOT NULL,                -- the upstream's, for the metric
    steps        jsonb NOT NULL,               -- of the launch's trace, written down when the code is redeemed
    expires_at   timestamptz NOT NULL
);
CREATE INDEX ON authorization_code (expires_at);

-- What somebody's session let a client have; its tokens are worth something while the grant and the session last.
CREATE TABLE product_grant (
    id         uuid PRIMARY KEY,
    code_hash  bytea NOT NULL UNIQUE,          -- the code that was redeemed for it: presented again, the grant ends
    client_id  text NOT NULL,
    session_id uuid NOT NULL,
    subject    text NOT NULL,
    sid        uuid NOT NULL,
    scopes     text[] NOT NULL,
    made_at    timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz,
    expires_at timestamptz NOT NULL
);
CREATE INDEX ON product_grant (expires_at);

CREATE TABLE product_token (
    hash       bytea PRIMARY KEY,
    grant_id   uuid NOT NULL REFERENCES product_grant ON DELETE CASCADE,
    kind       text NOT NULL CHECK (kind IN ('access', 'refresh')),
    used_at    timestamptz,                    -- of refresh tokens: used again, the grant ends
    expires_at timestamptz NOT NULL
);
CREATE INDEX ON product_token (grant_id);
CREATE INDEX ON product_token (expires_at);

-- Telling products of the end of sessions: how often it was tried, and when it is due again.
ALTER TABLE participation
    ADD COLUMN tries int NOT NULL DEFAULT 0,
    ADD COLUMN due_at timestamptz NOT NULL DEFAULT now();
CREATE INDEX participation_due ON participation (due_at) WHERE ended_at IS NOT NULL;
