-- Who may ask for tokens, and the keys tokens are signed with.

CREATE TABLE client (
    id              text PRIMARY KEY CHECK (id ~ '^[a-z0-9][a-z0-9._-]{0,62}$'),
    secret_hash     bytea NOT NULL CHECK (length(secret_hash) = 32),
    scopes          text[] NOT NULL,
    organization_id uuid,                       -- the one organization its tokens may see; null is all of them
    created_at      timestamptz NOT NULL DEFAULT now(),
    last_used_at    timestamptz,                -- to the minute
    disabled_at     timestamptz                 -- kept for ever after, so that an id never means somebody else
);

CREATE TABLE signing_key (
    id             text PRIMARY KEY,            -- the kid: the thumbprint of the public key (RFC 7638)
    public_jwk     jsonb NOT NULL,
    sealed_private text NOT NULL,               -- sealed to HOMEROOM_SSO_KEY, bound to the id
    signs_from     timestamptz NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now()
);
