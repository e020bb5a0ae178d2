-- What other sources than OneRoster 1.1 bring along: program demographics, reasons of removals, people of Google
-- Classroom joined to those of the SIS.

-- Fetches on their way were staged in the shape before. Emptied like this they are refused as incomplete and fetched
-- again, as after a crash of Postgres.
TRUNCATE staged_chunk;
DO $$
DECLARE staging text;
BEGIN
    FOR staging IN SELECT relname FROM pg_class WHERE relnamespace = 'roster_staging'::regnamespace AND relkind = 'r'
    LOOP
        EXECUTE format('DROP TABLE roster_staging.%I', staging);
    END LOOP;
END $$;

ALTER TABLE demographics_fields
    ADD COLUMN frl_status text,
    ADD COLUMN iep_status boolean,
    ADD COLUMN ell_status boolean;
ALTER TABLE demographics
    ADD COLUMN frl_status text,
    ADD COLUMN iep_status boolean,
    ADD COLUMN ell_status boolean;

ALTER TABLE removals_fields ADD COLUMN reason text NOT NULL;

-- What a fetch removes, once its keys were found among the district's rows. `reason` is the gateway's, or `reference`
-- for an enrollment that goes because its class or person does.
CREATE TABLE gone_fields (
    collection text NOT NULL,
    sourced_id text COLLATE "C" NOT NULL,
    reason     text NOT NULL
);

ALTER TABLE integration ADD COLUMN provider text NOT NULL DEFAULT '';

-- People of Google Classroom and who they are in the SIS of the same organization; with a reason where that is not
-- known. Made anew by the store whenever people on either side change. No foreign keys: checking them would wait for
-- applies of the other integrations, which wait for their turn to make these.
CREATE TABLE person_link (
    integration_no     int NOT NULL,
    sourced_id         text COLLATE "C" NOT NULL,
    sis_integration_no int,
    sis_sourced_id     text COLLATE "C",
    reason             text CHECK (reason IN ('no_email', 'unknown', 'ambiguous')),
    PRIMARY KEY (integration_no, sourced_id),
    CHECK ((reason IS NULL) = (sis_integration_no IS NOT NULL AND sis_sourced_id IS NOT NULL))
);

-- Schools whose data were incomplete when they were last looked at: what was kept back of them is no sign that they
-- had always been like that.
CREATE TABLE incomplete_school (
    integration_no int NOT NULL REFERENCES integration,
    sourced_id     text COLLATE "C" NOT NULL,
    PRIMARY KEY (integration_no, sourced_id)
);
