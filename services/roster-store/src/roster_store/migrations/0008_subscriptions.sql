-- Who is told of changes, and how far they are told (F2).

-- A subscription belongs to a product, or where there is none to an organization. With a product the organization and
-- the integration only narrow what the product's licenses show.
CREATE TABLE subscription (
    id              uuid PRIMARY KEY,
    product_id      uuid,
    organization_id uuid,
    integration_id  uuid,
    kind            text NOT NULL CHECK (kind IN ('webhook', 'kafka')),
    url             text,
    types           text[],                -- null for all events
    schools         text[],                -- sourcedIds; null for all that are seen
    demographics    boolean NOT NULL,      -- whether the token it was made with may see them
    batch           int NOT NULL,          -- events sent at once, at most
    created_at      timestamptz NOT NULL DEFAULT now(),
    created_by      text NOT NULL,

    -- What its webhooks are signed with, sealed with HOMEROOM_STORE_KEY and bound to the id.
    sealed_secret   text,
    sealed_earlier  text,                  -- the secret before, which signs as well for a while
    rotated_at      timestamptz,

    state           text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'disabled')),
    disabled_at     timestamptz,
    disabled_code   text,                  -- why; null where somebody asked for it
    alerted_at      timestamptz,           -- the `disabled_at` that the scheduler was told of

    -- How far it has come.
    cursor          text NOT NULL,         -- everything up to here was taken
    position        bigint NOT NULL,       -- the step the cursor stands in
    more            boolean NOT NULL DEFAULT true,   -- whether there may be events that no later step announces
    sending_to      text,                  -- where the batch ends that was refused, so that it is sent again as it was
    round           int NOT NULL DEFAULT 0,          -- grows when it is sent something again, so that ids are new ones

    -- Who is at work on it, and when the next one may be.
    lease           uuid,
    leased_until    timestamptz NOT NULL DEFAULT '-infinity',
    due_at          timestamptz NOT NULL DEFAULT '-infinity',
    failures        int NOT NULL DEFAULT 0,          -- in a row
    failing_since   timestamptz,
    sluggish        boolean NOT NULL DEFAULT false,  -- took long to answer the last time
    last_try_at     timestamptz,
    last_success_at timestamptz,
    last_problem    text,                  -- of the last try, or of the one that disabled it; no address, no person
    last_status     int,
    delivered       bigint NOT NULL DEFAULT 0,       -- events that were taken

    CHECK (product_id IS NOT NULL OR organization_id IS NOT NULL),
    CHECK ((kind = 'webhook') = (url IS NOT NULL AND sealed_secret IS NOT NULL)),
    CHECK (kind = 'webhook' OR product_id IS NOT NULL)
);
CREATE INDEX ON subscription (product_id);
CREATE INDEX ON subscription (organization_id) WHERE product_id IS NULL;
CREATE INDEX ON subscription (due_at) WHERE state = 'active';
-- A product has one topic.
CREATE UNIQUE INDEX subscription_topic ON subscription (product_id) WHERE kind = 'kafka';

-- Tests somebody waits for: asked by an API, sent by a worker, since only workers reach the outside.
CREATE TABLE subscription_test (
    id              uuid PRIMARY KEY,
    subscription_id uuid NOT NULL REFERENCES subscription ON DELETE CASCADE,
    asked_at        timestamptz NOT NULL DEFAULT now(),
    taken_at        timestamptz,
    ended_at        timestamptz,
    status          int,
    seconds         double precision,
    problem         text
);
CREATE UNIQUE INDEX subscription_test_under_way ON subscription_test (subscription_id) WHERE ended_at IS NULL;

SELECT guard_table(name) FROM unnest(ARRAY['subscription', 'subscription_test']) AS name;
