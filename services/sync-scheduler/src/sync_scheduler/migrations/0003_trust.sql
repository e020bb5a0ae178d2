-- Runs of several kinds, what they are held for, and under which terms an integration's pictures are taken.
ALTER TABLE integration
    ADD COLUMN guard jsonb NOT NULL DEFAULT '{}',              -- limits that differ from the defaults
    ADD COLUMN approve_first boolean NOT NULL DEFAULT false,   -- whether the first picture waits for approval
    ADD COLUMN additions_only boolean NOT NULL DEFAULT false,  -- whether nothing is ever removed
    ADD COLUMN keep_received boolean NOT NULL DEFAULT false,   -- whether what the provider sends is kept for a while
    ADD COLUMN takes_over uuid REFERENCES integration;         -- a deleted one whose records become this one's

ALTER TABLE run
    ADD COLUMN kind text NOT NULL DEFAULT 'sync' CHECK (kind IN ('sync', 'evaluation', 'refresh', 'restore')),
    ADD COLUMN slot timestamptz,              -- the moment of the schedule it was begun for
    ADD COLUMN options jsonb,                 -- tried instead of the integration's; only with an evaluation
    ADD COLUMN class_sourced_id text,         -- of a refresh
    ADD COLUMN teacher_sourced_id text,
    ADD COLUMN restores uuid REFERENCES run,  -- the run that is undone, with all after it
    ADD COLUMN plan text,                     -- the hash of what is held or was evaluated
    ADD COLUMN hold jsonb,                    -- what is held, why and until when
    ADD COLUMN published_at timestamptz;      -- when its newest attempt was handed to the workers

-- Each slot of a schedule is used once, however many schedulers there are.
CREATE UNIQUE INDEX run_slot ON run (integration, slot) WHERE slot IS NOT NULL;
