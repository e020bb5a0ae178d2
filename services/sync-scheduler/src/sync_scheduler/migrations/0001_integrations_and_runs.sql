-- `version` counts every change of a row that others are told of; `published_version` is what they were told last.
CREATE TABLE organization (
    id uuid PRIMARY KEY,
    position bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    name text NOT NULL,
    version int NOT NULL DEFAULT 1,
    published_version int NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX organization_unpublished ON organization (position) WHERE published_version < version;

CREATE TABLE integration (
    id uuid PRIMARY KEY,
    position bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    organization uuid NOT NULL REFERENCES organization,
    name text NOT NULL,
    provider text NOT NULL,
    sis text,
    region text NOT NULL,
    connection jsonb NOT NULL,
    sealed_secret text NOT NULL,
    options jsonb NOT NULL,
    edition int NOT NULL DEFAULT 1,      -- grows when a finished sync is no longer what the settings ask for
    state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'deleted')),
    needs_sync boolean NOT NULL DEFAULT true,
    last_success_at timestamptz,
    last_full_at timestamptz,            -- the "last sync date" that a reset forgets
    version int NOT NULL DEFAULT 1,
    published_version int NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX integration_of_organization ON integration (organization, position);
CREATE INDEX integration_unpublished ON integration (position) WHERE published_version < version;

CREATE TABLE run (
    id uuid PRIMARY KEY,
    number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    integration uuid NOT NULL REFERENCES integration,
    mode text NOT NULL CHECK (mode IN ('full')),
    state text NOT NULL DEFAULT 'queued' CHECK (
        state IN ('queued', 'fetching', 'applying', 'held', 'succeeded', 'partial', 'failed', 'cancelled')
    ),
    code text,
    detail text,
    attempt int NOT NULL DEFAULT 1,
    published_attempt int NOT NULL DEFAULT 0,
    not_before timestamptz,              -- the attempt is not published earlier
    edition int,                         -- of the settings that went out with the published attempt
    fetch_id text,
    worker text,
    heartbeat_at timestamptz,
    progress jsonb NOT NULL DEFAULT '{}',
    counts jsonb NOT NULL DEFAULT '{}',
    issues jsonb NOT NULL DEFAULT '[]',
    matched_students int NOT NULL DEFAULT 0,
    matched_teachers int NOT NULL DEFAULT 0,
    unmatched_users int NOT NULL DEFAULT 0,
    imported_classes int NOT NULL DEFAULT 0,
    cancel_requested boolean NOT NULL DEFAULT false,
    stop_below int,                      -- workers are to give up attempts below this one
    stop_reason text,
    stop_due_at timestamptz,             -- when they are told so next
    headers jsonb NOT NULL DEFAULT '{}', -- the trace of the request that asked for the run
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    deadline_at timestamptz NOT NULL,
    started_at timestamptz,
    finished_at timestamptz
);

-- One run at a time: whoever comes second, on whichever replica, finds the first.
CREATE UNIQUE INDEX run_active ON run (integration) WHERE state IN ('queued', 'fetching', 'applying');
CREATE INDEX run_of_integration ON run (integration, number DESC);
CREATE INDEX run_unpublished ON run (number) WHERE state = 'queued' AND published_attempt < attempt;
CREATE INDEX run_to_stop ON run (stop_due_at) WHERE stop_due_at IS NOT NULL;

CREATE TABLE run_entry (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run uuid NOT NULL REFERENCES run,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempt int NOT NULL,
    step text NOT NULL,
    code text,
    sentence text NOT NULL,
    UNIQUE (run, attempt, step)
);
