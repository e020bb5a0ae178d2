-- name: keeps_schools
SELECT EXISTS (SELECT FROM school_keeping WHERE integration_no = $1);

-- name: lock_integration_no
SELECT no FROM integration WHERE no = $1 FOR UPDATE;

-- name: begin_keeping_schools
INSERT INTO school_keeping (integration_no, since_apply) VALUES ($1, $2);

-- name: make_affected
CREATE TEMPORARY TABLE affected (
    collection text NOT NULL,
    sourced_id text COLLATE "C" NOT NULL,
    schools    text[],
    PRIMARY KEY (collection, sourced_id)
) ON COMMIT DROP;

-- name: analyze_affected
ANALYZE affected;

-- name: drop_affected
DROP TABLE affected;

-- name: affect_everything
INSERT INTO affected (collection, sourced_id)
SELECT 'classes', sourced_id FROM classes WHERE integration_no = $1 AND active
UNION ALL SELECT 'users', sourced_id FROM users WHERE integration_no = $1 AND active
UNION ALL SELECT 'enrollments', sourced_id FROM enrollments WHERE integration_no = $1 AND active
UNION ALL SELECT 'demographics', sourced_id FROM demographics WHERE integration_no = $1 AND active;

-- name: affect_classes
INSERT INTO affected (collection, sourced_id)
SELECT 'classes', sourced_id FROM classes WHERE integration_no = $1 AND changed_by = $2 AND active;

-- name: affect_enrollments
-- Those that changed, and those of classes that did, also where the class is gone.
INSERT INTO affected (collection, sourced_id)
SELECT 'enrollments', sourced_id FROM enrollments WHERE integration_no = $1 AND changed_by = $2 AND active
UNION
SELECT 'enrollments', mine.sourced_id
FROM classes AS class
JOIN enrollments AS mine ON mine.integration_no = $1 AND mine.class_sourced_id = class.sourced_id AND mine.active
WHERE class.integration_no = $1 AND class.changed_by = $2;

-- name: affect_past_enrollments
-- People of enrollments that are others' now, or gone.
INSERT INTO affected (collection, sourced_id)
SELECT 'users', past.before ->> 'user_sourced_id' FROM history AS past
WHERE past.integration_no = $1 AND past.collection = 'enrollments' AND past.until_apply = $2
UNION
SELECT 'users', gone.user_sourced_id FROM enrollments AS gone
WHERE gone.integration_no = $1 AND gone.changed_by = $2 AND NOT gone.active
ON CONFLICT DO NOTHING;

-- name: affect_users
INSERT INTO affected (collection, sourced_id)
SELECT 'users', sourced_id FROM users WHERE integration_no = $1 AND changed_by = $2 AND active
UNION
SELECT 'users', mine.user_sourced_id
FROM affected JOIN enrollments AS mine ON mine.integration_no = $1 AND mine.sourced_id = affected.sourced_id
WHERE affected.collection = 'enrollments'
UNION
-- where schools themselves came or went, everybody with a role there
SELECT 'users', person.sourced_id
FROM users AS person CROSS JOIN LATERAL jsonb_array_elements(person.roles) AS role
WHERE person.integration_no = $1 AND person.active
  AND EXISTS (SELECT FROM orgs WHERE integration_no = $1 AND changed_by = $2)
  AND role ->> 'orgSourcedId' IN (SELECT sourced_id FROM orgs WHERE integration_no = $1 AND changed_by = $2)
ON CONFLICT DO NOTHING;

-- name: affect_guardians
-- Guardians of the people concerned: named by them now or before, or naming them.
WITH concerned AS MATERIALIZED (SELECT sourced_id FROM affected WHERE collection = 'users'),
named AS (
    SELECT agent FROM concerned
    JOIN users AS person ON person.integration_no = $1 AND person.sourced_id = concerned.sourced_id
    CROSS JOIN LATERAL unnest(person.agent_sourced_ids) AS agent
    UNION
    SELECT agent FROM history AS past CROSS JOIN LATERAL jsonb_array_elements_text(past.before -> 'agent_sourced_ids') AS agent
    WHERE past.integration_no = $1 AND past.collection = 'users' AND past.until_apply = $2
    UNION
    SELECT person.sourced_id FROM users AS person CROSS JOIN LATERAL unnest(person.agent_sourced_ids) AS agent
    WHERE person.integration_no = $1 AND person.active AND cardinality(person.agent_sourced_ids) > 0
      AND agent IN (SELECT sourced_id FROM concerned)
)
INSERT INTO affected (collection, sourced_id)
SELECT 'users', named.agent FROM named
JOIN users AS person ON person.integration_no = $1 AND person.sourced_id = named.agent AND person.active
ON CONFLICT DO NOTHING;

-- name: affect_demographics
INSERT INTO affected (collection, sourced_id)
SELECT 'demographics', sourced_id FROM demographics WHERE integration_no = $1 AND changed_by = $2 AND active
UNION
SELECT 'demographics', affected.sourced_id FROM affected
JOIN demographics AS held ON held.integration_no = $1 AND held.sourced_id = affected.sourced_id AND held.active
WHERE affected.collection = 'users'
ON CONFLICT DO NOTHING;

-- name: belong_classes
UPDATE affected SET schools = ARRAY[class.school_sourced_id]
FROM classes AS class
WHERE affected.collection = 'classes' AND class.integration_no = $1 AND class.sourced_id = affected.sourced_id;

-- name: belong_users
-- The schools of a person's roles and of the classes they are in. What has to do with guardians is looked at next.
WITH places AS (
    SELECT person.sourced_id, role ->> 'orgSourcedId' AS school
    FROM affected
    JOIN users AS person ON person.integration_no = $1 AND person.sourced_id = affected.sourced_id AND person.active
    CROSS JOIN LATERAL jsonb_array_elements(person.roles) AS role
    WHERE affected.collection = 'users' AND role ->> 'role' NOT IN ('guardian', 'parent', 'relative')
      AND role ->> 'orgSourcedId' IN (SELECT sourced_id FROM orgs WHERE integration_no = $1 AND active AND type = 'school')
    UNION
    SELECT mine.user_sourced_id, class.school_sourced_id
    FROM affected
    JOIN enrollments AS mine ON mine.integration_no = $1 AND mine.user_sourced_id = affected.sourced_id AND mine.active
    JOIN classes AS class ON class.integration_no = $1 AND class.sourced_id = mine.class_sourced_id AND class.active
    WHERE affected.collection = 'users'
), gathered AS (
    SELECT sourced_id, array_agg(school ORDER BY school) AS schools FROM places GROUP BY sourced_id
)
UPDATE affected SET schools = coalesce(gathered.schools, '{}')
FROM users AS person
LEFT JOIN gathered ON gathered.sourced_id = person.sourced_id
WHERE affected.collection = 'users' AND person.integration_no = $1 AND person.sourced_id = affected.sourced_id AND person.active;

-- name: belong_guardians
-- Guardians are where their students are, whichever of the two names the other.
WITH guardian AS MATERIALIZED (
    SELECT person.sourced_id, person.agent_sourced_ids
    FROM affected
    JOIN users AS person ON person.integration_no = $1 AND person.sourced_id = affected.sourced_id AND person.active
    WHERE affected.collection = 'users' AND person.roles @? '$[*] ? (@.role == "guardian" || @.role == "parent" || @.role == "relative")'
), ties AS (
    SELECT guardian.sourced_id, student FROM guardian CROSS JOIN LATERAL unnest(guardian.agent_sourced_ids) AS student
    UNION
    SELECT guardian.sourced_id, student.sourced_id
    FROM users AS student
    CROSS JOIN LATERAL unnest(student.agent_sourced_ids) AS agent
    JOIN guardian ON guardian.sourced_id = agent
    WHERE student.integration_no = $1 AND student.active AND EXISTS (SELECT FROM guardian)
), gathered AS (
    SELECT ties.sourced_id, array_agg(DISTINCT school) AS schools
    FROM ties
    LEFT JOIN affected AS theirs ON theirs.collection = 'users' AND theirs.sourced_id = ties.student
    LEFT JOIN belonging AS known ON known.integration_no = $1 AND known.collection = 'users' AND known.sourced_id = ties.student
    JOIN users AS student ON student.integration_no = $1 AND student.sourced_id = ties.student AND student.active
         AND student.roles @> '[{"role": "student"}]'
    CROSS JOIN LATERAL unnest(coalesce(theirs.schools, known.schools)) AS school
    GROUP BY ties.sourced_id
)
UPDATE affected SET schools = ARRAY(SELECT DISTINCT school FROM unnest(affected.schools || gathered.schools) AS school ORDER BY school)
FROM gathered
WHERE affected.collection = 'users' AND affected.sourced_id = gathered.sourced_id;

-- name: belong_enrollments
-- Where the class is not there, the school the enrollment names itself.
UPDATE affected SET schools = CASE
    WHEN class.school_sourced_id IS NOT NULL THEN ARRAY[class.school_sourced_id]
    WHEN mine.school_sourced_id IS NOT NULL THEN ARRAY[mine.school_sourced_id]
    ELSE '{}' END
FROM enrollments AS mine
LEFT JOIN classes AS class ON class.integration_no = $1 AND class.sourced_id = mine.class_sourced_id AND class.active
WHERE affected.collection = 'enrollments' AND mine.integration_no = $1 AND mine.sourced_id = affected.sourced_id;

-- name: belong_demographics
UPDATE affected SET schools = coalesce(theirs.schools, known.schools, '{}')
FROM demographics AS held
LEFT JOIN affected AS theirs ON theirs.collection = 'users' AND theirs.sourced_id = held.sourced_id
LEFT JOIN belonging AS known ON known.integration_no = $1 AND known.collection = 'users' AND known.sourced_id = held.sourced_id
WHERE affected.collection = 'demographics' AND held.integration_no = $1 AND held.sourced_id = affected.sourced_id;

-- name: keep_belonging
-- Only what is other than before, with its places in the step: classes and people before what hangs on them.
WITH moved AS (
    SELECT affected.collection, affected.sourced_id, affected.schools,
           row_number() OVER (ORDER BY array_position(ARRAY['classes', 'users', 'enrollments', 'demographics'], affected.collection),
                                       affected.sourced_id) AS position
    FROM affected
    LEFT JOIN belonging AS held ON held.integration_no = $1 AND held.collection = affected.collection AND held.sourced_id = affected.sourced_id
    WHERE affected.schools IS NOT NULL AND held.schools IS DISTINCT FROM affected.schools
), kept AS (
    INSERT INTO belonging AS held (integration_no, collection, sourced_id, schools, ever, changed_by, change_no, version)
    SELECT $1, collection, sourced_id, schools, schools, $2, $3 + position, 1 FROM moved
    ON CONFLICT (integration_no, collection, sourced_id) DO UPDATE
    SET schools = excluded.schools,
        ever = ARRAY(SELECT DISTINCT school FROM unnest(held.ever || excluded.schools) AS school ORDER BY school),
        changed_by = excluded.changed_by, change_no = excluded.change_no, version = held.version + 1
    RETURNING 1
)
SELECT count(*) FROM kept;

-- name: touch_tied
-- People who name others that moved: whom they name is shown by where those are, so they changed for whoever looks.
WITH moved AS MATERIALIZED (
    SELECT sourced_id FROM belonging WHERE integration_no = $1 AND changed_by = $2 AND collection = 'users'
), tied AS (
    SELECT DISTINCT person.sourced_id
    FROM users AS person CROSS JOIN LATERAL unnest(person.agent_sourced_ids) AS agent
    WHERE person.integration_no = $1 AND person.active AND person.changed_by <> $2
      AND agent IN (SELECT sourced_id FROM moved) AND person.sourced_id NOT IN (SELECT sourced_id FROM moved)
), numbered AS (
    SELECT sourced_id, row_number() OVER (ORDER BY sourced_id) AS position FROM tied
), touched AS (
    UPDATE belonging AS held SET changed_by = $2, change_no = $3 + numbered.position, version = held.version + 1
    FROM numbered
    WHERE held.integration_no = $1 AND held.collection = 'users' AND held.sourced_id = numbered.sourced_id
    RETURNING 1
)
SELECT count(*) FROM touched;
