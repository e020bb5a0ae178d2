-- The roster: one table a collection, typed by OneRoster's fields; removed rows stay as tombstones.
--
-- Each collection's fields stand once, in a `_fields` table nobody writes to. The roster's table and every staging
-- table are made from it. There are no foreign keys between collections: a provider may send an enrollment before or
-- without its class, and a record that dangles is better kept and named than lost.

CREATE SCHEMA IF NOT EXISTS roster_staging;

CREATE TYPE origin AS ENUM ('synced', 'manual');
CREATE TYPE change AS ENUM ('added', 'updated', 'removed');

CREATE TABLE integration (
    no              int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id              uuid NOT NULL UNIQUE,
    organization_id uuid NOT NULL,
    last_apply      bigint NOT NULL DEFAULT 0,
    newest_run      bigint NOT NULL DEFAULT 0,  -- fencing: fetches older than this are refused
    newest_attempt  int NOT NULL DEFAULT 0,
    students        int NOT NULL DEFAULT 0,     -- active after the last apply
    teachers        int NOT NULL DEFAULT 0,
    classes         int NOT NULL DEFAULT 0
);
CREATE INDEX ON integration (organization_id);

CREATE TABLE staged_fetch (
    no             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id             text NOT NULL UNIQUE,
    integration_no int NOT NULL REFERENCES integration,
    run_id         uuid NOT NULL,
    run_number     bigint NOT NULL,
    attempt        int NOT NULL,
    basis          bigint NOT NULL,
    state          text NOT NULL DEFAULT 'staging'
                   CHECK (state IN ('staging', 'applied', 'held', 'refused', 'abandoned', 'overtaken')),
    started_at     timestamptz NOT NULL DEFAULT now(),
    finished_at    timestamptz,
    outcome        bytea                        -- the fact this fetch ended with, given again to whoever asks again
);
CREATE INDEX ON staged_fetch (integration_no, state);

-- Unlogged together with the staging tables: a crash of Postgres empties both, the count no longer fits, and the
-- run is fetched again. What is staged is never the only copy of anything.
CREATE UNLOGGED TABLE staged_chunk (
    fetch_no bigint NOT NULL,
    seq      int NOT NULL,
    PRIMARY KEY (fetch_no, seq)
);

-- An apply's number and its transaction id are taken under one lock, so both grow in the same order: readers of the
-- feed stop below the oldest apply still in flight and never skip one that commits late.
CREATE SEQUENCE apply_no;
CREATE TABLE apply (
    no             bigint PRIMARY KEY,
    xid            xid8 NOT NULL,
    integration_no int NOT NULL REFERENCES integration,
    run_id         uuid NOT NULL,
    applied_at     timestamptz NOT NULL,
    segments       jsonb NOT NULL,  -- [[collection, first change_no, last change_no], ...] in feed order
    counts         jsonb NOT NULL   -- {collection: {added, changed, removed}}
);
CREATE INDEX ON apply (integration_no, no);

CREATE TABLE relay (
    name      text PRIMARY KEY,
    apply_no  bigint NOT NULL DEFAULT 0,
    change_no int NOT NULL DEFAULT 0
);

CREATE TABLE orgs_fields (
    key                  uuid NOT NULL,
    fingerprint          bigint NOT NULL,
    sourced_id           text COLLATE "C" NOT NULL,
    metadata             jsonb,
    name                 text NOT NULL,
    type                 text NOT NULL,
    identifier           text,
    parent_sourced_id    text COLLATE "C"
);
CREATE TABLE academic_sessions_fields (
    key                  uuid NOT NULL,
    fingerprint          bigint NOT NULL,
    sourced_id           text COLLATE "C" NOT NULL,
    metadata             jsonb,
    title                text NOT NULL,
    type                 text NOT NULL,
    start_date           date NOT NULL,
    end_date             date NOT NULL,
    parent_sourced_id    text COLLATE "C",
    school_year          text
);
CREATE TABLE courses_fields (
    key                    uuid NOT NULL,
    fingerprint            bigint NOT NULL,
    sourced_id             text COLLATE "C" NOT NULL,
    metadata               jsonb,
    title                  text NOT NULL,
    course_code            text,
    school_year_sourced_id text COLLATE "C",
    org_sourced_id         text COLLATE "C",
    grades                 text[] NOT NULL,
    subjects               text[] NOT NULL,
    subject_codes          text[] NOT NULL
);
CREATE TABLE classes_fields (
    key               uuid NOT NULL,
    fingerprint       bigint NOT NULL,
    sourced_id        text COLLATE "C" NOT NULL,
    metadata          jsonb,
    title             text NOT NULL,
    school_sourced_id text COLLATE "C" NOT NULL,
    class_code        text,
    class_type        text,
    location          text,
    course_sourced_id text COLLATE "C",
    term_sourced_ids  text[] NOT NULL,
    grades            text[] NOT NULL,
    subjects          text[] NOT NULL,
    subject_codes     text[] NOT NULL,
    periods           text[] NOT NULL
);
CREATE TABLE users_fields (
    key                    uuid NOT NULL,
    fingerprint            bigint NOT NULL,
    sourced_id             text COLLATE "C" NOT NULL,
    metadata               jsonb,
    given_name             text NOT NULL,
    family_name            text NOT NULL,
    roles                  jsonb NOT NULL,
    username               text,
    enabled_user           boolean NOT NULL,
    middle_name            text,
    preferred_first_name   text,
    preferred_middle_name  text,
    preferred_last_name    text,
    pronouns               text,
    identifier             text,
    user_master_identifier text,
    email                  text,
    sms                    text,
    phone                  text,
    user_ids               jsonb NOT NULL,
    agent_sourced_ids      text[] NOT NULL,
    grades                 text[] NOT NULL
);
CREATE TABLE enrollments_fields (
    key               uuid NOT NULL,
    fingerprint       bigint NOT NULL,
    sourced_id        text COLLATE "C" NOT NULL,
    metadata          jsonb,
    user_sourced_id   text COLLATE "C" NOT NULL,
    class_sourced_id  text COLLATE "C" NOT NULL,
    school_sourced_id text COLLATE "C",
    role              text NOT NULL,
    "primary"         boolean,
    begin_date        date,
    end_date          date
);
CREATE TABLE demographics_fields (
    key                                       uuid NOT NULL,
    fingerprint                               bigint NOT NULL,
    sourced_id                                text COLLATE "C" NOT NULL,
    metadata                                  jsonb,
    birth_date                                date,
    sex                                       text,
    american_indian_or_alaska_native          boolean,
    asian                                     boolean,
    black_or_african_american                 boolean,
    native_hawaiian_or_other_pacific_islander boolean,
    white                                     boolean,
    demographic_race_two_or_more_races        boolean,
    hispanic_or_latino_ethnicity              boolean,
    country_of_birth_code                     text,
    state_of_birth_abbreviation               text,
    city_of_birth                             text,
    public_school_residence_status            text
);
CREATE TABLE removals_fields (
    collection text NOT NULL,
    key        uuid NOT NULL
);

-- `changed_by` and `change_no` are the place of a row's last change in the feed; both only grow, so their index is
-- appended to and costs little even on a first load.
DO $$
DECLARE collection text;
BEGIN
    FOREACH collection IN ARRAY ARRAY['orgs', 'academic_sessions', 'courses', 'classes', 'users', 'enrollments', 'demographics']
    LOOP
        EXECUTE format(
            'CREATE TABLE %1$I ('
            '    integration_no int NOT NULL,'
            '    changed_by bigint NOT NULL,'
            '    change_no int NOT NULL,'
            '    version int NOT NULL,'
            '    change change NOT NULL,'
            '    origin origin NOT NULL DEFAULT ''synced'','
            '    active boolean NOT NULL,'
            '    LIKE %2$I,'
            '    PRIMARY KEY (integration_no, sourced_id)'
            ')', collection, collection || '_fields');
        EXECUTE format('CREATE INDEX ON %I (changed_by, change_no)', collection);
    END LOOP;
END $$;
