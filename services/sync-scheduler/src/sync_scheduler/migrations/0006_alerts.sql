-- Licenses, alerts and links for districts.

-- What districts are rostered for.
CREATE TABLE product (
    id uuid PRIMARY KEY,
    position bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE license (
    id uuid PRIMARY KEY,
    position bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    product uuid NOT NULL REFERENCES product,
    organization uuid NOT NULL REFERENCES organization,
    valid_from timestamptz NOT NULL,
    valid_until timestamptz,             -- from then on it is none; null for one without an end
    revoked_at timestamptz,
    woken_at timestamptz,                -- when its beginning was followed by what was left out; null if that is to come
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CHECK (valid_until > valid_from)
);

CREATE INDEX license_of_organization ON license (organization);
CREATE INDEX license_to_begin ON license (valid_from) WHERE woken_at IS NULL;

-- How an integration fares, as far as others were told: an alert is a change of it.
CREATE TABLE watch (
    integration uuid PRIMARY KEY REFERENCES integration,
    state text NOT NULL DEFAULT 'ok' CHECK (state IN ('ok', 'failing', 'held', 'stale')),
    since timestamptz NOT NULL DEFAULT now(),
    look_at timestamptz NOT NULL DEFAULT now(), -- when it is judged again
    reminded uuid REFERENCES run,        -- the run whose hold was reminded of
    muted boolean NOT NULL DEFAULT false,
    muted_until timestamptz,             -- null for a mute without an end
    muted_by text
);

CREATE INDEX watch_due ON watch (look_at);
CREATE INDEX run_ended ON run (integration, number DESC) WHERE kind IN ('sync', 'restore') AND finished_at IS NOT NULL;

-- Who is told. Signing secrets are not kept: they follow from a key of ours, the id and the generation.
CREATE TABLE alert_target (
    id uuid PRIMARY KEY,
    position bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    organization uuid REFERENCES organization,   -- null for those of all organizations
    integration uuid REFERENCES integration,     -- null for all integrations of the organization
    kind text NOT NULL CHECK (kind IN ('webhook', 'email')),
    url text,
    address text,
    generation int NOT NULL DEFAULT 1,
    rotated_at timestamptz,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    CHECK (deleted_at IS NOT NULL OR (kind = 'webhook') = (url IS NOT NULL) AND (kind = 'email') = (address IS NOT NULL))
);

CREATE INDEX alert_target_of_organization ON alert_target (organization) WHERE deleted_at IS NULL;

CREATE TABLE alert (
    id uuid PRIMARY KEY,
    position bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    organization uuid REFERENCES organization,
    integration uuid REFERENCES integration,
    run uuid REFERENCES run,
    kind text NOT NULL,
    code text,
    at timestamptz NOT NULL DEFAULT now(),
    payload text NOT NULL,               -- the very text that is signed and sent to webhooks
    mail jsonb NOT NULL                  -- the same for people: subject and text
);

CREATE INDEX alert_of_organization ON alert (organization, position DESC);
CREATE INDEX alert_of_integration ON alert (integration, position DESC);
CREATE INDEX alert_at ON alert (at);

-- An alert on its way to somebody; pending and due, it is the message waiting to be sent.
CREATE TABLE alert_delivery (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alert uuid NOT NULL REFERENCES alert ON DELETE CASCADE,
    target uuid REFERENCES alert_target, -- null for an address that was named for this one message
    address text,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'given_up', 'dropped')),
    tries int NOT NULL DEFAULT 0,
    due_at timestamptz DEFAULT now(),    -- the next try; while somebody tries, when others may
    problem text,                        -- why the last try failed
    ended_at timestamptz,
    UNIQUE (alert, target)
);

CREATE INDEX alert_delivery_due ON alert_delivery (due_at) WHERE state = 'pending';
CREATE INDEX alert_delivery_of_target ON alert_delivery (target, position) WHERE state = 'pending';

-- A link by which a district hands its credentials over; of the token only the hash is kept.
CREATE TABLE credential_link (
    id uuid PRIMARY KEY,
    position bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    integration uuid NOT NULL REFERENCES integration,
    token_hash bytea NOT NULL UNIQUE,
    note text,
    notify text,                         -- an e-mail address that is told once it was used
    tries int NOT NULL DEFAULT 0,        -- how often the provider was asked
    outcome_code text,                   -- what the last verification came to; null with outcome_at for a good one
    outcome_at timestamptz,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    revoked_at timestamptz
);

CREATE INDEX credential_link_of_integration ON credential_link (integration, position DESC);

-- Credentials may be tried before they are saved: they stand with the question until it is answered.
ALTER TABLE inquiry
    ADD COLUMN connection jsonb,
    ADD COLUMN sealed_secret text;

DROP INDEX inquiry_pending;
CREATE UNIQUE INDEX inquiry_pending ON inquiry (integration, kind, edition)
    WHERE answered_at IS NULL AND sealed_secret IS NULL;
