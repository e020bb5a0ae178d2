-- What was begun for somebody on the way into a product, and accounts that were connected.

-- A launch under way to a product that redeems a ticket, or to a tool that speaks LTI. Losing these in a crash costs
-- somebody one more click, and none comes back after one, so they are not written to the log.
CREATE UNLOGGED TABLE handed_over (
    hash          bytea PRIMARY KEY,           -- of the ticket, or of LTI's lti_message_hint
    mode          text NOT NULL CHECK (mode IN ('ticket', 'lti')),
    login_hash    bytea CHECK ((login_hash IS NOT NULL) = (mode = 'lti')), -- of LTI's login_hint
    client_id     text NOT NULL,
    product_id    uuid NOT NULL,
    session_id    uuid NOT NULL,
    launch_id     uuid NOT NULL,
    support_id    text NOT NULL,
    kind          text NOT NULL,               -- the upstream's, for the metric
    destination   text,
    deployment_id text,
    expires_at    timestamptz NOT NULL
);
CREATE INDEX ON handed_over (expires_at);

-- Somebody at a product wants their account there connected with who they are at school (D4).
CREATE TABLE link_request (
    id              uuid PRIMARY KEY,
    token_hash      bytea NOT NULL UNIQUE,     -- of what the one-time URL ends with
    product_id      uuid NOT NULL,
    organization_id uuid,                      -- the one it must be; null for any that licenses the product
    connection_id   uuid,                      -- the one that was asked for
    external_id     text COLLATE "C" NOT NULL, -- the product's own id of the account
    label           text NOT NULL,             -- what the product calls the account on the page; blank once it is over
    other_sign_in   boolean NOT NULL,          -- whether the account can be signed in to without us
    return_to       text NOT NULL,
    by              text NOT NULL,             -- the subject of the product's token
    browser_hash    bytea,                     -- the browser it was opened in
    launch_id       uuid,
    support_id      text,
    kind            text,
    form_hash       bytea,                     -- of what the confirmation must bring along
    -- Who signed in.
    person_id       uuid REFERENCES person ON DELETE CASCADE,
    at_organization uuid,
    at_connection   uuid,
    integration_id  uuid,
    sourced_id      text COLLATE "C",
    created_at      timestamptz NOT NULL DEFAULT now(),
    expires_at      timestamptz NOT NULL,
    opened_at       timestamptz,
    arrived_at      timestamptz,
    confirmed_at    timestamptz,
    ended_at        timestamptz,
    outcome         text CHECK (outcome IN (
        'linked', 'account_linked', 'person_linked', 'not_rostered', 'refused', 'cancelled'
    )),
    CHECK ((outcome IS NULL) = (ended_at IS NULL))
);
CREATE INDEX ON link_request (created_at);
CREATE INDEX ON link_request (expires_at) WHERE label <> '';
CREATE INDEX ON link_request (person_id);

-- Accounts of products that people connected themselves.
CREATE TABLE linked_account (
    product_id      uuid NOT NULL,
    organization_id uuid NOT NULL,
    external_id     text COLLATE "C" NOT NULL,
    person_id       uuid NOT NULL REFERENCES person ON DELETE CASCADE,
    integration_id  uuid NOT NULL,             -- what the roster called them then
    sourced_id      text COLLATE "C" NOT NULL,
    connection_id   uuid NOT NULL,
    other_sign_in   boolean NOT NULL,
    linked_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (product_id, organization_id, external_id)
);
CREATE INDEX ON linked_account (person_id);
