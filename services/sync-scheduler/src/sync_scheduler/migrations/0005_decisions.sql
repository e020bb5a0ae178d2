-- Decisions about what is held, and who did what.

-- Who did what: written beside what was done, in the same transaction, and never changed.
CREATE TABLE audit_entry (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    organization uuid REFERENCES organization, -- NULL for what concerns none, or all
    by text NOT NULL,                          -- the subject of the caller's token, or a name of ours
    action text NOT NULL,                      -- what was done, as `thing.verb`
    subject text NOT NULL,                     -- what it was done to, as `thing:id`
    detail jsonb NOT NULL DEFAULT '{}'         -- ids, codes and settings; no personal data, no secrets
);

CREATE INDEX audit_of_organization ON audit_entry (organization, position DESC);
CREATE INDEX audit_of_subject ON audit_entry (subject, position DESC);

CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit is only ever added to';
END
$$;

CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entry
FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();

-- A decision about a plan that is held; while it is not answered it is the message that is to be sent, again and again.
CREATE TABLE decision (
    id uuid PRIMARY KEY,
    run uuid NOT NULL REFERENCES run,
    attempt int NOT NULL,                -- the attempt whose plan it is
    plan text NOT NULL,
    action text NOT NULL CHECK (action IN ('approve', 'additions', 'discard', 'expire')),
    by text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    published int NOT NULL DEFAULT 0,    -- how often
    publish_at timestamptz DEFAULT now(), -- when it is published next
    answered_at timestamptz,
    code text                            -- why the store refused it
);

-- A plan is decided once. Only one that could not be carried out leaves room for another.
CREATE UNIQUE INDEX decision_once ON decision (run, plan) WHERE code IS NULL;
CREATE INDEX decision_unpublished ON decision (publish_at) WHERE publish_at IS NOT NULL;
CREATE INDEX decision_of_run ON decision (run);

-- `run.hold` with its decision is what waits; `hold_expires_at` is when it does no longer, while nobody has decided.
ALTER TABLE run ADD COLUMN hold_expires_at timestamptz;

CREATE INDEX run_hold_expires ON run (hold_expires_at) WHERE hold_expires_at IS NOT NULL;
CREATE INDEX run_decided ON run (deadline_at) WHERE state = 'held' AND hold IS NOT NULL AND hold_expires_at IS NULL;
CREATE INDEX run_restores ON run (published_at) WHERE kind = 'restore' AND state IN ('queued', 'applying');
CREATE INDEX run_refreshes ON run (integration, created_at DESC) WHERE kind = 'refresh';

ALTER TABLE integration
    DROP CONSTRAINT integration_bookmark_gone_check,
    ADD CONSTRAINT integration_bookmark_gone_check CHECK (
        bookmark_gone IN ('reset', 'edit', 'sync', 'hold', 'restore')
    );
