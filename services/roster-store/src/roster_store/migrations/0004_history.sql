-- What records were before they were changed, and who was missed once.

-- A row as it was until apply `until_apply` changed or removed it. A record that an apply added for the first time has
-- none: that it has no history since then, and was changed since then, says so.
CREATE TABLE history (
    integration_no int NOT NULL REFERENCES integration,
    collection     text NOT NULL,
    sourced_id     text COLLATE "C" NOT NULL,
    until_apply    bigint NOT NULL,
    before         jsonb NOT NULL,   -- the whole row of the collection's table
    PRIMARY KEY (integration_no, collection, sourced_id, until_apply)
);
CREATE INDEX ON history (until_apply);

-- Records a complete run did not see and could not prove gone. They go if a later complete run does not see them either.
CREATE TABLE missing (
    integration_no int NOT NULL REFERENCES integration,
    collection     text NOT NULL,
    key            uuid NOT NULL,
    run_number     bigint NOT NULL,  -- of the first run that missed it
    since          timestamptz NOT NULL,
    PRIMARY KEY (integration_no, collection, key)
);

-- The newest apply whose history is not, or not wholly, kept any more: undoing it or an older one is impossible. A table
-- of its own and without a foreign key, so that forgetting never waits for a district that is being applied, nor that
-- for it.
CREATE TABLE history_horizon (
    integration_no int PRIMARY KEY,
    apply_no       bigint NOT NULL
);
-- What was applied before there was a history can't be undone.
INSERT INTO history_horizon (integration_no, apply_no) SELECT no, last_apply FROM integration WHERE last_apply > 0;

-- Which applies are old enough to be forgotten.
CREATE INDEX ON apply (applied_at);

-- What a plan takes over from another integration (C8), and whose it was.
CREATE TABLE taken_fields (
    collection     text NOT NULL,
    sourced_id     text COLLATE "C" NOT NULL,
    integration_no int NOT NULL
);
