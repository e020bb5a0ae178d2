-- Schedules, what became of their slots, pauses, and how many runs of one host start at a time.
ALTER TABLE integration
    ADD COLUMN schedule jsonb NOT NULL DEFAULT '{"kind": "manual"}',
    ADD COLUMN schedule_since timestamptz NOT NULL DEFAULT now(), -- when it was set; what every_24_hours counts from
    -- The earliest moment not dealt with yet. Every slot of the schedule before it was used, or is counted as owed.
    ADD COLUMN next_slot_at timestamptz,
    ADD COLUMN next_slot_why text NOT NULL DEFAULT 'schedule' CHECK (next_slot_why IN ('schedule', 'edit', 'catch-up')),
    ADD COLUMN slots_owed int NOT NULL DEFAULT 0,  -- slots that one run is to make up for
    ADD COLUMN slots_owed_code text,               -- what keeps them from it
    ADD COLUMN uploads_after timestamptz,          -- files that wait are not tried earlier
    ADD COLUMN paused_at timestamptz,
    ADD COLUMN paused_until timestamptz,           -- null: until somebody resumes
    ADD COLUMN pause_reason text,
    ADD COLUMN paused_by text,
    -- The provider's server: what start limits protect. Null where nothing is reached.
    ADD COLUMN host text GENERATED ALWAYS AS (
        lower(substring(
            CASE WHEN connection ->> 'auth' = 'proxy' THEN connection ->> 'proxy_url'
                ELSE coalesce(connection ->> 'endpoint_url', connection ->> 'base_url')
            END
            FROM '^[A-Za-z]+://([^/?#]+)'
        ))
    ) STORED;

CREATE INDEX integration_due ON integration (next_slot_at) WHERE next_slot_at IS NOT NULL;

-- What became of a schedule's slots, one row for each change: several that share a fate are one row.
CREATE TABLE slot (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    integration uuid NOT NULL REFERENCES integration,
    slot timestamptz NOT NULL,           -- the newest it is about
    outcome text NOT NULL CHECK (outcome IN ('started', 'skipped', 'left_out')),
    code text,
    slots int NOT NULL DEFAULT 1,        -- how many it is about
    run uuid REFERENCES run,             -- that was started, or stood in the way
    at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX slot_of_integration ON slot (integration, id DESC);
CREATE INDEX slot_recorded ON slot (at);

-- How many were handed out in the last minute.
CREATE INDEX run_published ON run (published_at) WHERE published_at IS NOT NULL;
