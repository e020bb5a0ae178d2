-- What is held until somebody decides.
ALTER TABLE staged_fetch ADD COLUMN terms jsonb NOT NULL DEFAULT '{}';
ALTER TABLE staged_fetch DROP CONSTRAINT staged_fetch_state_check;
ALTER TABLE staged_fetch ADD CONSTRAINT staged_fetch_state_check
    CHECK (state IN ('staging', 'applied', 'held', 'evaluated', 'refused', 'abandoned', 'overtaken'));

-- A plan, or the removals of one, that waits. What is staged of it stays in the tables of its fetch, logged, so that a
-- crash of Postgres loses nothing of it.
CREATE TABLE hold (
    no             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    fetch_no       bigint NOT NULL UNIQUE REFERENCES staged_fetch ON DELETE CASCADE,
    integration_no int NOT NULL REFERENCES integration,
    run_id         uuid NOT NULL,
    plan           text NOT NULL,              -- the hash of what waits; an approval names it
    everything     boolean NOT NULL,           -- or removals alone, the rest being applied
    state          text NOT NULL DEFAULT 'open'
                   CHECK (state IN ('open', 'approved', 'discarded', 'expired', 'replaced', 'lost')),
    code           text NOT NULL,
    held_at        timestamptz NOT NULL DEFAULT now(),
    expires_at     timestamptz NOT NULL,
    ended_at       timestamptz,
    staged         jsonb NOT NULL,             -- {staging table: rows}, to notice what is lost
    rest           jsonb NOT NULL              -- what an approval needs beside that: `holding.Rest`
);
CREATE INDEX ON hold (integration_no) WHERE state = 'open';
CREATE INDEX ON hold (run_id);

-- Every decision that arrived and what it was answered with, given again to whoever sends it again.
CREATE TABLE decision (
    id             text PRIMARY KEY,
    integration_no int NOT NULL REFERENCES integration,
    run_id         uuid NOT NULL,
    plan           text NOT NULL,
    action         text NOT NULL,
    decided_by     text NOT NULL,
    asked_at       timestamptz NOT NULL,
    arrived_at     timestamptz NOT NULL DEFAULT now(),
    outcome        bytea NOT NULL
);
CREATE INDEX ON decision (arrived_at);
