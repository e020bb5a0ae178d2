-- Canvas accounts that are kept in step (D6).

-- A target belongs to a product, or where there is none to an organization; it is always of one roster.
CREATE TABLE canvas_target (
    id               uuid PRIMARY KEY,
    product_id       uuid,
    organization_id  uuid NOT NULL,
    integration_no   int NOT NULL REFERENCES integration,
    integration_id   uuid NOT NULL,
    base_url         text NOT NULL,
    account_id       text NOT NULL,
    sealed_token     text NOT NULL,          -- sealed with HOMEROOM_STORE_KEY and bound to the id
    options          jsonb NOT NULL,         -- login, courses, guardians, time_zone
    mode             text NOT NULL CHECK (mode IN ('diffing', 'full')),
    change_threshold int NOT NULL CHECK (change_threshold BETWEEN 1 AND 100),
    automatic        boolean NOT NULL,
    generation       int NOT NULL DEFAULT 1, -- grows when sets are no longer comparable with those before
    created_at       timestamptz NOT NULL DEFAULT now(),
    created_by       text NOT NULL,

    held_code        text,                   -- why nothing is pushed by itself; null if all is well
    held_counts      jsonb,                  -- what the held set came to, which is what somebody confirms
    counts           jsonb,                  -- {file: active rows} of the last set that Canvas took
    basis            bigint,                 -- the step the first set was of: what is removed later is told of
    tried_step       bigint NOT NULL DEFAULT 0, -- the newest step the last push was of
    tried_at         timestamptz,

    -- Somebody waits for an answer: asked by an API, found out by a worker, since only workers reach the outside.
    test_asked       int NOT NULL DEFAULT 0,
    test_answered    int NOT NULL DEFAULT 0,
    test_due         boolean NOT NULL DEFAULT false,
    test_code        text,
    test_detail      text
);
CREATE INDEX ON canvas_target (product_id);
CREATE INDEX ON canvas_target (organization_id) WHERE product_id IS NULL;
CREATE INDEX ON canvas_target (integration_no);
CREATE INDEX ON canvas_target (id) WHERE test_due;

CREATE TABLE canvas_push (
    id             uuid PRIMARY KEY,
    target_id      uuid NOT NULL REFERENCES canvas_target ON DELETE CASCADE,
    state          text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'working', 'held', 'succeeded', 'failed')),
    by_hand        boolean NOT NULL,
    confirmed      text,                     -- the code of what somebody confirmed
    code           text,
    detail         text,
    counts         jsonb,                    -- {file: [rows, active rows]}
    bytes          bigint,
    import_id      text,                     -- Canvas' own
    workflow_state text,
    progress       int,
    messages       jsonb NOT NULL DEFAULT '[]', -- [{severity, file, row, message}], no person in them
    message_count  int NOT NULL DEFAULT 0,
    step           bigint,                   -- the newest step that is in the set
    tries          int NOT NULL DEFAULT 0,
    due_at         timestamptz NOT NULL,
    holder         uuid,                     -- the worker that is at it
    lease_until    timestamptz,
    created_at     timestamptz NOT NULL DEFAULT now(),
    started_at     timestamptz,
    uploaded_at    timestamptz,
    finished_at    timestamptz
);
-- One at a time, and one behind it that takes in whatever comes meanwhile.
CREATE UNIQUE INDEX canvas_push_waiting ON canvas_push (target_id) WHERE state = 'waiting';
CREATE UNIQUE INDEX canvas_push_working ON canvas_push (target_id) WHERE state = 'working';
CREATE INDEX ON canvas_push (target_id, created_at DESC);
CREATE INDEX ON canvas_push (due_at) WHERE state IN ('waiting', 'working');

SELECT guard_table('canvas_target'), guard_table('canvas_push');
