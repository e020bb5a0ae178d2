-- Records made by hand (C9), what a record was and when, and what records are found by (F1).

-- What was made by hand goes and comes back with its class and person: few rows, looked for at every apply.
CREATE INDEX enrollments_by_hand ON enrollments (integration_no) WHERE origin = 'manual';
CREATE INDEX demographics_by_hand ON demographics (integration_no) WHERE origin = 'manual';

-- ── history ──────────────────────────────────────────────────────────────────────────────────────────────────────

-- For the platform and organizations. A product sees nothing of what was, only of what changes from now on.
CREATE POLICY seen ON history TO homeroom_served USING (
    integration_no = roster.seen_integration()
    AND roster.seen_product() IS NULL
    AND (collection <> 'demographics' OR current_setting('homeroom.demographics', true) = 'on')
);
GRANT SELECT ON history TO homeroom_served;
GRANT CREATE ON SCHEMA roster_served TO homeroom_served;

CREATE VIEW roster_served.history WITH (security_barrier) AS
SELECT past.collection, past.sourced_id, past.until_apply,
       CASE WHEN current_setting('homeroom.demographics', true) = 'on' THEN past.before ELSE past.before - 'pronouns' END AS before
FROM roster.history AS past;

-- The steps that changed records, by whom and why.
CREATE VIEW roster_served.steps WITH (security_barrier) AS
SELECT step.no, step.kind, step.run_id, step.applied_at, step.detail
FROM roster.apply AS step
WHERE roster.seen_product() IS NULL AND step.product_id IS NULL;

-- ── search ───────────────────────────────────────────────────────────────────────────────────────────────────────

-- Text as it is compared: without capitals and accents, whatever the server's locale is.
CREATE FUNCTION fold_text(given text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN regexp_replace(
    replace(replace(replace(translate(
        lower(normalize(given, NFKD) COLLATE pg_c_utf8), 'øłđħıŧðſ', 'oldhitds'), 'ß', 'ss'), 'æ', 'ae'), 'œ', 'oe'),
    '[\u0300-\u036f]', '', 'g');
-- The words of a text, with single spaces between them; apostrophes don't part words.
CREATE FUNCTION fold_words(given text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN btrim(regexp_replace(
    regexp_replace(roster.fold_text(given), '[''’ʼ`]', '', 'g') COLLATE pg_c_utf8, '[^[:alnum:]]+', ' ', 'g'));
-- An identifier or address, without blanks around it.
CREATE FUNCTION fold_plain(given text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN btrim(regexp_replace(roster.fold_text(given), '\s+', ' ', 'g'));

-- What records are found by: each text as often as it has words, beginning with another of them each time, so that
-- every word is a beginning (`ada lovelace`, `lovelace ada`); identifiers and addresses as they are. Made from the
-- roster after every change (`roster_store.search`), so it may be emptied and is made anew.
CREATE TABLE search_text (
    integration_no int NOT NULL,
    collection     text NOT NULL CHECK (collection IN ('orgs', 'classes', 'users')),
    key            uuid NOT NULL,          -- of the record
    sourced_id     text COLLATE "C" NOT NULL,
    field_group    text NOT NULL CHECK (field_group IN ('names', 'identifiers', 'contacts', 'addresses')),
    text           text COLLATE "C" NOT NULL
);
CREATE INDEX search_texts ON search_text (integration_no, collection, text);
CREATE INDEX search_keys ON search_text (key);

-- How far that is: all applies up to `through`, and those in `beyond`.
CREATE TABLE search_progress (
    integration_no int PRIMARY KEY,
    through        bigint NOT NULL,
    beyond         bigint[] NOT NULL DEFAULT '{}'
);
SELECT guard_table('search_text'), guard_table('search_progress');

-- Nobody finds a record by a field that is not theirs to see. `addresses` are user names that are e-mail addresses.
CREATE POLICY seen ON search_text TO homeroom_served USING (
    integration_no = roster.seen_integration()
    AND CASE field_group
        WHEN 'names' THEN true
        WHEN 'identifiers' THEN current_setting('homeroom.identifiers', true) = 'on'
        WHEN 'contacts' THEN current_setting('homeroom.contacts', true) = 'on'
        ELSE current_setting('homeroom.identifiers', true) = 'on' AND current_setting('homeroom.contacts', true) = 'on'
    END
);
GRANT SELECT ON search_text TO homeroom_served;
CREATE VIEW roster_served.search_text WITH (security_barrier) AS
SELECT collection, sourced_id, text FROM roster.search_text;

DO $$
DECLARE served text;
BEGIN
    FOREACH served IN ARRAY ARRAY['history', 'steps', 'search_text']
    LOOP
        EXECUTE format('GRANT SELECT ON roster_served.%I TO homeroom_reader', served);
        EXECUTE format('ALTER VIEW roster_served.%I OWNER TO homeroom_served', served);
    END LOOP;
END $$;
REVOKE CREATE ON SCHEMA roster_served FROM homeroom_served;
