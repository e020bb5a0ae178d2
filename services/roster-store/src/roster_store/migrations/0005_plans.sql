-- What was found out about pictures that were only looked at, or held: to be read and downloaded (C11).

CREATE TABLE plan_report (
    fetch_no       bigint PRIMARY KEY,
    integration_no int NOT NULL REFERENCES integration,
    run_id         uuid NOT NULL,
    plan           text NOT NULL,
    made_at        timestamptz NOT NULL DEFAULT now(),
    report         jsonb             -- null once it was forgotten
);
CREATE INDEX ON plan_report (run_id);
CREATE INDEX ON plan_report (made_at) WHERE report IS NOT NULL;

-- The changes of one plan, in `roster_staging.p<fetch_no>_changes`, as they were when it was made: the roster goes on,
-- a plan that was looked at does not. Logged, unlike what is staged, as nobody could make it again.
CREATE TABLE plan_change_fields (
    place       bigint GENERATED ALWAYS AS IDENTITY,
    collection  text NOT NULL,
    sourced_id  text COLLATE "C" NOT NULL,
    change      text NOT NULL,       -- added, changed, removed
    reason      text,                -- of a removal
    schools     text[],              -- where it belongs, before and after
    given_name  text,
    family_name text,
    title       text,
    role        text,                -- of a person or enrollment; the type of an org or session
    fields      jsonb,               -- of a changed record: [[field, before, after], ...]
    held        boolean NOT NULL     -- whether it waits until somebody decides
);

-- What a run came to is asked for by the run.
CREATE INDEX ON apply (run_id);
CREATE INDEX ON staged_fetch (run_id);
