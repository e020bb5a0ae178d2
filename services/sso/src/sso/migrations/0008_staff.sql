-- People who sign in to Homeroom itself, what they may do, and how they were asked in.

-- Somebody of the staff. Three kinds: a portal's user (of a connection), somebody of a roster, and a local account with
-- a password. An e-mail address identifies nobody.
CREATE TABLE staff_account (
    id              uuid PRIMARY KEY,
    kind            text NOT NULL CHECK (kind IN ('portal', 'rostered', 'local')),
    organization_id uuid,                      -- whose people they are; null for people of the platform itself
    connection_id   uuid REFERENCES connection,
    tenant          text COLLATE "C",          -- '' where the portal has none
    subject         text COLLATE "C",
    integration_id  uuid,
    sourced_id      text COLLATE "C",
    username        text COLLATE "C",          -- in small letters
    password_hash   text,
    declared        boolean NOT NULL DEFAULT false, -- by the operator's settings, again at each start
    label           text,                      -- who it is, in the words of whoever asked them in
    created_at      timestamptz NOT NULL DEFAULT now(),
    last_used_at    timestamptz,
    disabled_at     timestamptz,
    CHECK (CASE kind
        WHEN 'portal' THEN num_nulls(organization_id, connection_id, tenant, subject) = 0
            AND num_nonnulls(integration_id, sourced_id, username, password_hash) = 0
        WHEN 'rostered' THEN num_nulls(organization_id, integration_id, sourced_id) = 0
            AND num_nonnulls(connection_id, tenant, subject, username, password_hash) = 0
        ELSE num_nulls(username, password_hash) = 0
            AND num_nonnulls(connection_id, tenant, subject, integration_id, sourced_id) = 0
    END)
);
CREATE UNIQUE INDEX staff_of_portal ON staff_account (connection_id, tenant, subject) WHERE kind = 'portal';
CREATE UNIQUE INDEX staff_of_roster ON staff_account (integration_id, sourced_id) WHERE kind = 'rostered';
CREATE UNIQUE INDEX staff_of_name ON staff_account (username) WHERE kind = 'local';
CREATE INDEX staff_of_organization ON staff_account (organization_id, id);

-- What somebody may do. That they are a teacher stands in the roster, not here.
CREATE TABLE staff_role (
    id              uuid PRIMARY KEY,
    account_id      uuid NOT NULL REFERENCES staff_account ON DELETE CASCADE,
    role            text NOT NULL CHECK (role IN ('platform-admin', 'district-admin', 'product-admin', 'support')),
    organization_id uuid,
    product_id      uuid,
    granted_by      text NOT NULL,
    granted_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (account_id, role, organization_id, product_id),
    CHECK ((role = 'district-admin') <= (organization_id IS NOT NULL)),
    CHECK ((role = 'product-admin') = (product_id IS NOT NULL)),
    CHECK (organization_id IS NULL OR role IN ('district-admin', 'support'))
);
CREATE INDEX staff_role_of_organization ON staff_role (organization_id);

-- Browsers in which a local account signed in before: guessing from elsewhere doesn't lock them out.
CREATE TABLE staff_browser (
    account_id   uuid NOT NULL REFERENCES staff_account ON DELETE CASCADE,
    browser_hash bytea NOT NULL,
    used_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, browser_hash)
);

-- A URL that gives whoever opens it first, and signs in, a role.
CREATE TABLE staff_invitation (
    id              uuid PRIMARY KEY,
    token_hash      bytea NOT NULL UNIQUE,
    role            text NOT NULL,
    organization_id uuid,
    product_id      uuid,
    home_id         uuid,                      -- of which organization's people they are to be; null with `local` only
    local           boolean NOT NULL,          -- whether they may choose a password here
    label           text,
    invited_by      text NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    expires_at      timestamptz NOT NULL,
    accepted_at     timestamptz,
    account_id      uuid REFERENCES staff_account ON DELETE SET NULL,
    withdrawn_at    timestamptz
);
CREATE INDEX staff_invitation_of_home ON staff_invitation (home_id, id);
CREATE INDEX staff_session ON session (staff_id) WHERE staff_id IS NOT NULL;
