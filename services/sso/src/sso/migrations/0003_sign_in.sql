-- Sign-in: who may come through which door, what was begun, who came, and what is told of it.

-- ── what `tenancy` says ──────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE organization (
    id   uuid PRIMARY KEY,
    name text NOT NULL
);
CREATE TABLE integration (
    id              uuid PRIMARY KEY,
    organization_id uuid NOT NULL,
    name            text NOT NULL,
    provider        text NOT NULL,
    deleted         boolean NOT NULL DEFAULT false -- its people may still come in (C8)
);
CREATE INDEX ON integration (organization_id);
CREATE TABLE product (
    id   uuid PRIMARY KEY,
    name text NOT NULL
);
CREATE TABLE license (
    id              uuid PRIMARY KEY,
    product_id      uuid NOT NULL,
    organization_id uuid NOT NULL,
    valid_from      timestamptz NOT NULL,
    valid_until     timestamptz,
    revoked_at      timestamptz
);
CREATE INDEX ON license (organization_id, product_id);

-- ── doors ────────────────────────────────────────────────────────────────────────────────────────────────────────

-- An identity provider as we know it: credentials and trust. One that is shared is an application at a portal which
-- serves many districts (Clever, ClassLink): there the tenant in the answer says which one it is. Any other belongs to
-- the one connection that has its id.
CREATE TABLE upstream (
    id            uuid PRIMARY KEY,
    kind          text NOT NULL CHECK (kind IN ('classlink', 'clever', 'oidc', 'classlink-saml', 'saml')),
    shared        boolean NOT NULL,
    name          text NOT NULL,
    product_id    uuid,                        -- what a tile without further words opens; null asks
    config        jsonb NOT NULL,              -- `sso.connections.upstreams.OidcConfig` or `SamlConfig`; no secrets
    sealed_secret text,                        -- the client secret, bound to the id
    sealed_key    text,                        -- for encrypted assertions: our private key, bound to the id
    enabled       boolean NOT NULL DEFAULT true,
    revision      bigint NOT NULL DEFAULT 1,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    deleted_at    timestamptz                  -- kept, so that an id never means another one
);

-- A district's way in.
CREATE TABLE connection (
    id                   uuid PRIMARY KEY,
    organization_id      uuid NOT NULL,
    upstream_id          uuid NOT NULL REFERENCES upstream,
    name                 text NOT NULL,
    tenant               text,                 -- ClassLink's TenantId, Clever's district id: exact text
    integration_id       uuid,                 -- whose roster its people are in
    person_field         text NOT NULL DEFAULT 'sourcedId'
                         CHECK (person_field IN ('sourcedId', 'identifier', 'userMasterIdentifier')),
    rostering            text NOT NULL DEFAULT 'required' CHECK (rostering IN ('required', 'optional')),
    max_roster_age_hours int CHECK (max_roster_age_hours > 0),
    enabled              boolean NOT NULL DEFAULT true,
    created_at           timestamptz NOT NULL DEFAULT now(),
    updated_at           timestamptz NOT NULL DEFAULT now(),
    deleted_at           timestamptz,
    CHECK (rostering = 'optional' OR integration_id IS NOT NULL)
);
CREATE UNIQUE INDEX connection_of_tenant ON connection (upstream_id, tenant) WHERE deleted_at IS NULL;
CREATE INDEX connection_of_organization ON connection (organization_id, id) WHERE deleted_at IS NULL;

-- ── launches ─────────────────────────────────────────────────────────────────────────────────────────────────────

-- Every launch leaves a trace that holds ids of ours and codes, never a name or a claim.
CREATE TABLE launch (
    id              uuid PRIMARY KEY,
    support_id      text NOT NULL,             -- what is read out on the telephone; two that are alike do no harm
    purpose         text NOT NULL CHECK (purpose IN ('launch', 'authorize', 'link', 'staff', 'test')),
    state           text NOT NULL DEFAULT 'begun' CHECK (state IN ('begun', 'signed-in', 'completed', 'refused', 'abandoned')),
    code            text,                      -- with `refused`: why
    upstream_id     uuid,
    connection_id   uuid,
    organization_id uuid,
    integration_id  uuid,
    sourced_id      text,                      -- who it was, once that is known; forgotten with an erasure
    product_id      uuid,
    steps           jsonb NOT NULL DEFAULT '[]',
    began_at        timestamptz NOT NULL DEFAULT now(),
    ended_at        timestamptz
);
CREATE INDEX launch_of_support_id ON launch (support_id);
CREATE INDEX launch_of_connection ON launch (connection_id, id DESC);
CREATE INDEX launch_of_organization ON launch (organization_id, id DESC);
CREATE INDEX launch_of_person ON launch (integration_id, sourced_id) WHERE sourced_id IS NOT NULL; -- for erasures
CREATE INDEX launch_open ON launch (began_at) WHERE state IN ('begun', 'signed-in');
CREATE INDEX launch_old ON launch (began_at);

-- What each day brought, kept when traces are gone. Launches of a trial are not counted.
CREATE TABLE launch_count (
    upstream_id   uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000', -- begun at none
    connection_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000', -- not known yet
    day           date NOT NULL,
    outcome       text NOT NULL,               -- 'completed', 'abandoned', or the code of a refusal
    launches      bigint NOT NULL,
    PRIMARY KEY (connection_id, day, outcome, upstream_id)
);
CREATE INDEX ON launch_count (day);
-- Days that are counted: each once, all of them, when they are over.
CREATE TABLE launch_day (
    day date PRIMARY KEY
);

-- What a browser has begun at an upstream: found by the hash of `state` (or of the SAML request's id), used once.
-- Losing these in a crash costs somebody one more click, so they are not written to the log.
CREATE UNLOGGED TABLE flow (
    state_hash    bytea PRIMARY KEY,
    browser_hash  bytea NOT NULL,
    launch_id     uuid NOT NULL,
    support_id    text NOT NULL,
    upstream_id   uuid NOT NULL,
    connection_id uuid,                        -- the one that was asked for, if one was
    purpose       text NOT NULL,
    product_id    uuid,
    destination   text,
    resume        text,                        -- what the purpose goes on with, an id of its own
    nonce         text,
    code_verifier text,
    fresh         boolean NOT NULL DEFAULT false, -- a new sign-in was asked for
    restarts      int NOT NULL DEFAULT 0,
    began_at      timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz NOT NULL
);
CREATE INDEX ON flow (expires_at);

-- Codes and assertions that were presented, so that none counts twice. Never lost in a crash.
CREATE TABLE presented (
    hash       bytea PRIMARY KEY,
    expires_at timestamptz NOT NULL
);
CREATE INDEX ON presented (expires_at);

-- ── who they are ─────────────────────────────────────────────────────────────────────────────────────────────────

-- Somebody who came in. The id is random and never leaves sso: what products are told is derived from it.
CREATE TABLE person (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now()
);
-- What the roster calls them: one current name, and the ones before it.
CREATE TABLE person_name (
    integration_id uuid NOT NULL,
    sourced_id     text COLLATE "C" NOT NULL,
    person_id      uuid NOT NULL REFERENCES person ON DELETE CASCADE,
    current        boolean NOT NULL,
    PRIMARY KEY (integration_id, sourced_id)
);
CREATE UNIQUE INDEX person_current_name ON person_name (person_id) WHERE current;
CREATE INDEX person_names ON person_name (person_id);
-- What a portal calls them.
CREATE TABLE identity (
    connection_id uuid NOT NULL REFERENCES connection,
    tenant        text COLLATE "C" NOT NULL,   -- '' where the portal has none
    subject       text COLLATE "C" NOT NULL,   -- the portal's own user id, exactly as sent
    person_id     uuid NOT NULL REFERENCES person ON DELETE CASCADE,
    created_at    timestamptz NOT NULL DEFAULT now(),
    last_used_at  timestamptz NOT NULL DEFAULT now(),  -- to the day
    PRIMARY KEY (connection_id, tenant, subject)
);
CREATE INDEX ON identity (person_id);

-- What the store last said of somebody, for as long as it may be believed without asking again.
CREATE UNLOGGED TABLE person_answer (
    integration_id uuid NOT NULL,
    field          text NOT NULL,
    value          text COLLATE "C" NOT NULL,
    product_id     uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000', -- as the platform sees them
    sourced_id     text COLLATE "C",
    answer         jsonb NOT NULL,
    asked_at       timestamptz NOT NULL,
    PRIMARY KEY (integration_id, field, value, product_id)
);
CREATE INDEX ON person_answer (asked_at);
CREATE INDEX ON person_answer (integration_id, sourced_id);

-- ── sessions ─────────────────────────────────────────────────────────────────────────────────────────────────────

-- A browser in which somebody is signed in.
CREATE TABLE session (
    id              uuid PRIMARY KEY,
    token_hash      bytea NOT NULL UNIQUE,
    previous_hash   bytea,                     -- of the token before, for what is on its way with it
    previous_until  timestamptz,
    person_id       uuid REFERENCES person ON DELETE CASCADE,
    organization_id uuid,                      -- null for people of the platform itself
    connection_id   uuid,                      -- null for local accounts
    integration_id  uuid,
    sourced_id      text COLLATE "C",          -- null for whom no roster knows
    staff_id        uuid,                      -- of `staff_account`, for people who sign in to Homeroom itself
    shown_as        text,                      -- the name of whom no roster knows
    auth_time       timestamptz NOT NULL,
    upstream        jsonb,                     -- what single logout needs (SAML's NameID and SessionIndex)
    last_seen_at    timestamptz NOT NULL DEFAULT now(),
    expires_at      timestamptz NOT NULL
);
CREATE INDEX ON session (previous_hash) WHERE previous_hash IS NOT NULL;
CREATE INDEX ON session (person_id);
CREATE INDEX ON session (expires_at);

-- ── what products know ───────────────────────────────────────────────────────────────────────────────────────────

-- A product's client as an OpenID relying party, and how a tile opens it.
CREATE TABLE relying_party (
    client_id                 text PRIMARY KEY REFERENCES client,
    product_id                uuid NOT NULL,
    launches                  boolean NOT NULL DEFAULT true,  -- whether tiles open the product through this client
    launch_mode               text NOT NULL DEFAULT 'oidc' CHECK (launch_mode IN ('oidc', 'ticket', 'lti')),
    redirect_uris             text[] NOT NULL DEFAULT '{}',
    post_logout_redirect_uris text[] NOT NULL DEFAULT '{}',
    initiate_login_uri        text,
    launch_uri                text,            -- where tickets are sent
    backchannel_logout_uri    text,
    destinations              jsonb NOT NULL DEFAULT '{}',    -- name → target_link_uri
    refresh_tokens            boolean NOT NULL DEFAULT false,
    public                    boolean NOT NULL DEFAULT false, -- without a secret: PKCE alone
    lti                       jsonb,
    updated_at                timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX relying_party_of_product ON relying_party (product_id) WHERE launches;

-- Which products a session was told to, and what they call it.
CREATE TABLE participation (
    sid        uuid PRIMARY KEY,
    session_id uuid NOT NULL,                  -- outlives the session until the product was told of its end
    client_id  text NOT NULL,
    subject    text NOT NULL,
    began_at   timestamptz NOT NULL DEFAULT now(),
    ended_at   timestamptz,
    UNIQUE (session_id, client_id)
);
CREATE INDEX ON participation (ended_at) WHERE ended_at IS NOT NULL;

-- Rostered people who came into a product and of whom the store is not told yet: the outbox of `sign-ins`.
CREATE TABLE sign_in (
    id              uuid PRIMARY KEY,
    integration_id  uuid NOT NULL,
    organization_id uuid NOT NULL,
    product_id      uuid NOT NULL,
    sourced_id      text NOT NULL,
    at              timestamptz NOT NULL
);
