-- Who sees what of the roster: licenses in force, row-level security, and the views everything is served from (F3, D5).
--
-- Readers of the roster are the role `homeroom_reader`, which may read the views in `roster_served` and nothing else.
-- The views belong to `homeroom_served`, which sees of the tables what their policies let it see: the records of the
-- one integration, product, schools and field groups that the transaction says (`roster_store.sights`). Without that
-- it sees nothing. The service's own work is done by the owner of the tables, for whom the policies hold as well: it
-- must say `homeroom.access = work`.

DO $$
DECLARE wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['homeroom_served', 'homeroom_reader']
    LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            EXCEPTION
                WHEN duplicate_object OR unique_violation THEN NULL; -- another database of the server was quicker
                WHEN insufficient_privilege THEN
                    RAISE EXCEPTION 'the role % is missing, and % may not create it', wanted, current_user
                        USING HINT = format('As an administrator: CREATE ROLE %1$I NOLOGIN; GRANT %1$I TO %2$I;', wanted, current_user);
            END;
        END IF;
        IF NOT pg_has_role(current_user, wanted, 'SET') THEN
            EXECUTE format('GRANT %I TO CURRENT_USER WITH SET TRUE, INHERIT FALSE', wanted);
        END IF;
    END LOOP;
END $$;

-- What `tenancy` says.
CREATE TABLE organization (
    id   uuid PRIMARY KEY,
    name text NOT NULL
);
CREATE TABLE product (
    id        uuid PRIMARY KEY,
    name      text NOT NULL,
    classes   text NOT NULL DEFAULT 'automatic' CHECK (classes IN ('automatic', 'teacher-started')),
    unmatched text NOT NULL DEFAULT 'list' CHECK (unmatched IN ('list', 'create'))
);
CREATE TABLE license (
    id              uuid PRIMARY KEY,
    product_id      uuid NOT NULL,
    organization_id uuid NOT NULL,
    schools         text[],                -- null for the whole organization
    grants          text[] NOT NULL,
    valid_from      timestamptz NOT NULL,
    valid_until     timestamptz,
    revoked_at      timestamptz
);
CREATE INDEX ON license (product_id, organization_id);

-- What a product may see of an organization now: the licenses in force, taken together (`roster_store.terms`). `until`
-- is the first moment at which that may be otherwise; what is past it counts as nothing, until it is decided again.
CREATE TABLE access (
    product_id      uuid NOT NULL,
    organization_id uuid NOT NULL,
    live            boolean NOT NULL DEFAULT false,
    schools         text[],
    grants          text[] NOT NULL DEFAULT '{}',
    teacher_started boolean NOT NULL DEFAULT false,
    until           timestamptz NOT NULL DEFAULT '-infinity',
    since           timestamptz NOT NULL DEFAULT now(),
    revision        bigint NOT NULL DEFAULT 0,   -- grows with every change that products are told of
    look_at         timestamptz NOT NULL,        -- when it is decided again
    matched         bigint NOT NULL DEFAULT 0,   -- the revision at which accounts were matched
    PRIMARY KEY (product_id, organization_id)
);
CREATE INDEX ON access (organization_id);
CREATE INDEX ON access (look_at) WHERE look_at < 'infinity';

-- Where in the feed a product's view of an integration begins: everything it sees then comes first, then what changes.
CREATE TABLE beginning (
    product_id     uuid NOT NULL,
    integration_no int NOT NULL REFERENCES integration,
    apply_no       bigint NOT NULL,
    revision       bigint NOT NULL,              -- of the access that was told
    PRIMARY KEY (product_id, integration_no)
);

-- Applies are steps of the feed, whoever made them. Those with a product are steps of that product's feed alone.
ALTER TABLE apply
    ADD COLUMN kind text NOT NULL DEFAULT 'sync'
        CHECK (kind IN ('sync', 'manual', 'license', 'class-started', 'signed-in', 'erasure', 'schools')),
    ADD COLUMN product_id uuid,
    ADD COLUMN detail jsonb,               -- what the step is about, by kind
    ALTER COLUMN run_id DROP NOT NULL;     -- null for steps that no run made
CREATE INDEX ON apply (product_id, no) WHERE product_id IS NOT NULL;

-- Integrations of which it is kept which schools their records belong to, from some step on.
CREATE TABLE school_keeping (
    integration_no int PRIMARY KEY,
    since_apply    bigint NOT NULL
);
-- Which schools a record belongs to, kept only where a license or a reader names schools, for the collections whose records can
-- move between them. `ever` only grows: what left a school is told to those who saw it there.
CREATE TABLE belonging (
    integration_no int NOT NULL REFERENCES integration,
    collection     text NOT NULL,          -- classes, users, enrollments or demographics
    sourced_id     text COLLATE "C" NOT NULL,
    schools        text[] NOT NULL,
    ever           text[] NOT NULL,
    changed_by     bigint NOT NULL,
    change_no      int NOT NULL,
    version        int NOT NULL,
    PRIMARY KEY (integration_no, collection, sourced_id)
);
CREATE INDEX ON belonging (changed_by, change_no);

-- What is awake for a product whose classes wait for their teachers (D2): classes that were started, people who came in.
CREATE TABLE activation (
    product_id     uuid NOT NULL,
    integration_no int NOT NULL REFERENCES integration,
    collection     text NOT NULL CHECK (collection IN ('classes', 'users')),
    sourced_id     text COLLATE "C" NOT NULL,
    apply_no       bigint NOT NULL,
    at             timestamptz NOT NULL,
    by             text,                   -- for a class, the teacher's sourcedId or the caller
    PRIMARY KEY (product_id, integration_no, collection, sourced_id)
);

-- Cursors that stand before this apply miss removals that are not kept any more.
CREATE TABLE feed_horizon (
    integration_no int PRIMARY KEY,
    apply_no       bigint NOT NULL
);

-- Who is in which class is asked all the time.
CREATE INDEX enrollments_of_class ON enrollments (integration_no, class_sourced_id) WHERE active;
CREATE INDEX enrollments_of_user ON enrollments (integration_no, user_sourced_id) WHERE active;

-- ── what a transaction says it looks at ──────────────────────────────────────────────────────────────────────────

CREATE FUNCTION seen_integration() RETURNS int LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('homeroom.integration', true), '')::int;
CREATE FUNCTION seen_product() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('homeroom.product', true), '')::uuid;
CREATE FUNCTION is_limited() RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
    RETURN coalesce(current_setting('homeroom.schools', true), '') <> '';
CREATE FUNCTION seen_schools() RETURNS text[] LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('homeroom.schools', true), '')::text[];
CREATE FUNCTION waits_for_teachers() RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
    RETURN coalesce(current_setting('homeroom.teacher_started', true), '') = 'on';

-- The roles of a person as a license for some schools shows them: those at its schools, or one at the first of the
-- person's schools that it covers, if they only attend classes there.
CREATE FUNCTION show_roles(roles jsonb, schools text[]) RETURNS jsonb LANGUAGE sql STABLE PARALLEL SAFE
    RETURN coalesce(
        (SELECT jsonb_agg(role) FROM jsonb_array_elements(roles) AS role
         WHERE role ->> 'orgSourcedId' = ANY (roster.seen_schools())),
        (SELECT jsonb_build_array(jsonb_build_object('role', roles -> 0 ->> 'role', 'roleType', 'primary', 'orgSourcedId', school))
         FROM unnest(schools) AS school WHERE school = ANY (roster.seen_schools()) LIMIT 1),
        '[]'::jsonb);

-- ── row-level security ───────────────────────────────────────────────────────────────────────────────────────────

-- For every table of a tenant, also those of later migrations: nobody sees anything of it but for a policy, and the
-- owner only while it says that it is at work.
CREATE FUNCTION guard_table(guarded text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE roster.%I ENABLE ROW LEVEL SECURITY', guarded);
    EXECUTE format('ALTER TABLE roster.%I FORCE ROW LEVEL SECURITY', guarded);
    EXECUTE format(
        'CREATE POLICY work ON roster.%I TO CURRENT_USER '
        'USING (current_setting(''homeroom.access'', true) = ''work'')', guarded);
END $$;

SELECT guard_table(name) FROM unnest(ARRAY[
    'integration', 'staged_fetch', 'apply', 'orgs', 'academic_sessions', 'courses', 'classes', 'users', 'enrollments',
    'demographics', 'person_link', 'incomplete_school', 'history', 'missing', 'history_horizon', 'hold', 'decision', 'plan_report',
    'organization', 'product', 'license', 'access', 'beginning', 'belonging', 'activation', 'feed_horizon', 'school_keeping'
]) AS name;

GRANT USAGE ON SCHEMA roster TO homeroom_served, homeroom_reader;

-- Collections anybody sees who sees the integration.
CREATE POLICY seen ON academic_sessions TO homeroom_served USING (integration_no = roster.seen_integration());
CREATE POLICY seen ON courses TO homeroom_served USING (integration_no = roster.seen_integration());
CREATE POLICY seen ON orgs TO homeroom_served USING (
    integration_no = roster.seen_integration()
    AND (NOT roster.is_limited() OR type <> 'school' OR sourced_id = ANY (roster.seen_schools()))
);
CREATE POLICY seen ON belonging TO homeroom_served USING (integration_no = roster.seen_integration());
CREATE POLICY seen ON activation TO homeroom_served
    USING (integration_no = roster.seen_integration() AND product_id = roster.seen_product());
CREATE POLICY seen ON apply TO homeroom_served USING (integration_no = roster.seen_integration());
CREATE POLICY seen ON classes TO homeroom_served USING (
    integration_no = roster.seen_integration()
    AND (NOT roster.is_limited() OR EXISTS (
        SELECT FROM roster.belonging AS part
        WHERE part.integration_no = classes.integration_no AND part.collection = 'classes'
          AND part.sourced_id = classes.sourced_id AND part.ever && roster.seen_schools()))
    AND (NOT roster.waits_for_teachers() OR EXISTS (
        SELECT FROM roster.activation AS started
        WHERE started.product_id = roster.seen_product() AND started.integration_no = classes.integration_no
          AND started.collection = 'classes' AND started.sourced_id = classes.sourced_id))
);
CREATE POLICY seen ON users TO homeroom_served USING (
    integration_no = roster.seen_integration()
    AND (current_setting('homeroom.guardians', true) = 'on'
         OR roles @? '$[*] ? (@.role != "guardian" && @.role != "parent" && @.role != "relative")')
    AND (NOT roster.is_limited() OR EXISTS (
        SELECT FROM roster.belonging AS part
        WHERE part.integration_no = users.integration_no AND part.collection = 'users'
          AND part.sourced_id = users.sourced_id AND part.ever && roster.seen_schools()))
    AND (NOT roster.waits_for_teachers()
         OR roles @? '$[*] ? (@.role != "student" && @.role != "guardian" && @.role != "parent" && @.role != "relative")'
         OR EXISTS (
        SELECT FROM roster.activation AS connected
        WHERE connected.product_id = roster.seen_product() AND connected.integration_no = users.integration_no
          AND connected.collection = 'users' AND connected.sourced_id = users.sourced_id))
);
CREATE POLICY seen ON enrollments TO homeroom_served USING (
    integration_no = roster.seen_integration()
    AND (NOT roster.is_limited() OR EXISTS (
        SELECT FROM roster.belonging AS part
        WHERE part.integration_no = enrollments.integration_no AND part.collection = 'enrollments'
          AND part.sourced_id = enrollments.sourced_id AND part.ever && roster.seen_schools()))
    AND (NOT roster.waits_for_teachers() OR (EXISTS (
        SELECT FROM roster.activation AS started
        WHERE started.product_id = roster.seen_product() AND started.integration_no = enrollments.integration_no
          AND started.collection = 'classes' AND started.sourced_id = enrollments.class_sourced_id)
        AND EXISTS (
        SELECT FROM roster.activation AS connected
        WHERE connected.product_id = roster.seen_product() AND connected.integration_no = enrollments.integration_no
          AND connected.collection = 'users' AND connected.sourced_id = enrollments.user_sourced_id)))
);
CREATE POLICY seen ON demographics TO homeroom_served USING (
    integration_no = roster.seen_integration()
    AND current_setting('homeroom.demographics', true) = 'on'
    AND (NOT roster.is_limited() OR EXISTS (
        SELECT FROM roster.belonging AS part
        WHERE part.integration_no = demographics.integration_no AND part.collection = 'demographics'
          AND part.sourced_id = demographics.sourced_id AND part.ever && roster.seen_schools()))
    AND (NOT roster.waits_for_teachers() OR EXISTS (
        SELECT FROM roster.activation AS connected
        WHERE connected.product_id = roster.seen_product() AND connected.integration_no = demographics.integration_no
          AND connected.collection = 'users' AND connected.sourced_id = demographics.sourced_id))
);
GRANT SELECT ON orgs, academic_sessions, courses, classes, users, enrollments, demographics, belonging, activation, apply
    TO homeroom_served;

-- ── the views ────────────────────────────────────────────────────────────────────────────────────────────────────

-- One view a collection, named like its table: the record's columns as the transaction may see them, and besides
--   integration_no
--   active      false for what is removed, and for what left the schools that are seen: of that nothing but its id
--               and its place is shown
--   change      'added', 'updated' or 'removed': what the last change came to
--   changed_by, change_no  the place of that change in the feed (for what was woken up, of the waking, with 0)
--   told_by, told_no  the same without the waking: of what is gone, it is there that it is told
--   held_by, held_no  the place of the last change of the record itself: an index narrows by it
--   version     grows with every change that is seen
--   origin      synced or manual
--   changed_at  when
-- No security barriers: which rows are seen is the policies' to say, not the views'. A view behind a barrier is planned
-- apart from the statement that reads it, and would sort what is left of a district for every page.
CREATE SCHEMA roster_served AUTHORIZATION CURRENT_USER;
GRANT USAGE ON SCHEMA roster_served TO homeroom_reader;
GRANT USAGE, CREATE ON SCHEMA roster_served TO homeroom_served;

CREATE FUNCTION serve_collection(served text, part text, class_column text, user_column text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    -- part: the collection whose belonging counts; null where schools don't matter
    seen text := CASE WHEN part IS NULL THEN 'true' ELSE '(NOT roster.is_limited() OR part.schools && roster.seen_schools())' END;
    joins text := '';
    changed_by text[] := ARRAY['held.changed_by'];
    versions text := 'held.version';
    columns text;
BEGIN
    IF part IS NOT NULL THEN
        joins := format(
            ' LEFT JOIN roster.belonging AS part ON roster.is_limited() AND part.integration_no = held.integration_no'
            ' AND part.collection = %L AND part.sourced_id = held.sourced_id', part);
        changed_by := changed_by || 'part.changed_by'::text;
        versions := versions || ' + coalesce(part.version, 0)';
    END IF;
    IF class_column IS NOT NULL THEN
        joins := joins || format(
            ' LEFT JOIN roster.activation AS started ON roster.waits_for_teachers()'
            ' AND started.product_id = roster.seen_product() AND started.integration_no = held.integration_no'
            ' AND started.collection = ''classes'' AND started.sourced_id = held.%I', class_column);
        changed_by := changed_by || 'started.apply_no'::text;
        versions := versions || ' + (started.apply_no IS NOT NULL)::int';
    END IF;
    IF user_column IS NOT NULL THEN
        joins := joins || format(
            ' LEFT JOIN roster.activation AS connected ON roster.waits_for_teachers()'
            ' AND connected.product_id = roster.seen_product() AND connected.integration_no = held.integration_no'
            ' AND connected.collection = ''users'' AND connected.sourced_id = held.%I', user_column);
        changed_by := changed_by || 'connected.apply_no'::text;
        versions := versions || ' + (connected.apply_no IS NOT NULL)::int';
    END IF;
    SELECT string_agg(
        format('%s AS %I',
            CASE
                WHEN masked.allowed IS NULL AND seen = 'true' THEN shown.value
                ELSE format('CASE WHEN %s THEN %s ELSE %s END', concat_ws(' AND ', nullif(seen, 'true'), masked.allowed), shown.value, shown.missing)
            END,
            field.attname),
        ', ' ORDER BY field.attnum)
    INTO columns
    FROM pg_attribute AS field
    CROSS JOIN LATERAL (SELECT
        CASE WHEN served = 'users' AND field.attname = 'roles' THEN
                 'CASE WHEN NOT roster.is_limited() THEN held.roles ELSE roster.show_roles(held.roles, part.schools) END'
             WHEN field.attname = 'agent_sourced_ids' THEN
                 'CASE WHEN NOT roster.is_limited() THEN held.agent_sourced_ids ELSE ARRAY('
                 'SELECT agent.sourced_id FROM unnest(held.agent_sourced_ids) WITH ORDINALITY AS agent (sourced_id, place) JOIN roster.belonging AS theirs'
                 ' ON theirs.integration_no = held.integration_no AND theirs.collection = ''users'''
                 ' AND theirs.sourced_id = agent.sourced_id AND theirs.schools && roster.seen_schools() ORDER BY agent.place) END'
             ELSE format('held.%I', field.attname) END AS value,
        CASE WHEN NOT field.attnotnull THEN 'NULL'
             WHEN field.atttypid = 'jsonb'::regtype THEN '''[]''::jsonb'
             WHEN field.atttypid = 'boolean'::regtype THEN 'false'
             WHEN field.atttypid = 'text[]'::regtype THEN '''{}''::text[]'
             WHEN field.atttypid = 'date'::regtype THEN 'NULL'
             ELSE '''''::text' END AS missing) AS shown
    LEFT JOIN (VALUES
        (NULL::text, 'metadata', 'current_setting(''homeroom.metadata'', true) = ''on'''),
        (NULL, 'grades', 'current_setting(''homeroom.grades'', true) = ''on'''),
        ('users', 'username', 'current_setting(''homeroom.identifiers'', true) = ''on'' AND (current_setting(''homeroom.contacts'', true) = ''on'' OR position(''@'' IN held.username) = 0)'),
        ('users', 'identifier', 'current_setting(''homeroom.identifiers'', true) = ''on'''),
        ('users', 'user_ids', 'current_setting(''homeroom.identifiers'', true) = ''on'''),
        ('users', 'user_master_identifier', 'current_setting(''homeroom.identifiers'', true) = ''on'''),
        ('users', 'email', 'current_setting(''homeroom.contacts'', true) = ''on'''),
        ('users', 'sms', 'current_setting(''homeroom.contacts'', true) = ''on'''),
        ('users', 'phone', 'current_setting(''homeroom.contacts'', true) = ''on'''),
        ('users', 'agent_sourced_ids', 'current_setting(''homeroom.guardians'', true) = ''on'''),
        ('users', 'pronouns', 'current_setting(''homeroom.demographics'', true) = ''on''')
    ) AS masked (collection, name, allowed)
      ON masked.name = field.attname AND (masked.collection IS NULL OR masked.collection = served)
    WHERE field.attrelid = format('roster.%I', served || '_fields')::regclass
      AND field.attnum > 0 AND NOT field.attisdropped AND field.attname NOT IN ('key', 'fingerprint', 'sourced_id');
    EXECUTE format(
        'CREATE VIEW roster_served.%1$I AS '
        'SELECT held.integration_no, held.sourced_id, (held.active AND %2$s) AS active, '
        'CASE WHEN NOT (held.active AND %2$s) THEN ''removed'' WHEN held.change = ''added'' AND %3$s = held.changed_by THEN ''added'' ELSE ''updated'' END AS change, '
        '%3$s AS changed_by, CASE %3$s WHEN held.changed_by THEN held.change_no %6$s ELSE 0 END AS change_no, '
        'held.changed_by AS held_by, held.change_no AS held_no, %8$s, %4$s AS version, held.origin, changer.applied_at AS changed_at, %5$s '
        'FROM roster.%1$I AS held%7$s LEFT JOIN roster.apply AS changer ON changer.no = %3$s',
        served, seen, CASE WHEN cardinality(changed_by) = 1 THEN changed_by[1] ELSE 'greatest(' || array_to_string(changed_by, ', ') || ')' END,
        versions, columns, CASE WHEN part IS NULL THEN '' ELSE 'WHEN part.changed_by THEN part.change_no' END, joins,
        CASE WHEN part IS NULL THEN 'held.changed_by AS told_by, held.change_no AS told_no'
             ELSE 'greatest(held.changed_by, part.changed_by) AS told_by, '
                  'CASE WHEN part.changed_by > held.changed_by THEN part.change_no ELSE held.change_no END AS told_no' END);
    -- Before it is another's: whose roles inherit nothing may not grant what is not theirs.
    EXECUTE format('GRANT SELECT ON roster_served.%I TO homeroom_reader', served);
    EXECUTE format('ALTER VIEW roster_served.%I OWNER TO homeroom_served', served);
END $$;
SELECT serve_collection('orgs', NULL, NULL, NULL),
       serve_collection('academic_sessions', NULL, NULL, NULL),
       serve_collection('courses', NULL, NULL, NULL),
       serve_collection('classes', 'classes', 'sourced_id', NULL),
       serve_collection('users', 'users', NULL, 'sourced_id'),
       serve_collection('enrollments', 'enrollments', 'class_sourced_id', 'user_sourced_id'),
       serve_collection('demographics', 'demographics', NULL, 'sourced_id');
DROP FUNCTION serve_collection;
REVOKE CREATE ON SCHEMA roster_served FROM homeroom_served;
