-- name: create_prospect
CREATE TEMPORARY TABLE prospect_orgs (
    sourced_id text COLLATE "C", stays boolean, name text, type text
) ON COMMIT DROP;
CREATE TEMPORARY TABLE prospect_academic_sessions (
    sourced_id text COLLATE "C", stays boolean, title text, type text, start_date date, end_date date
) ON COMMIT DROP;
CREATE TEMPORARY TABLE prospect_courses (
    sourced_id text COLLATE "C", stays boolean, title text, org_sourced_id text COLLATE "C"
) ON COMMIT DROP;
CREATE TEMPORARY TABLE prospect_classes (
    sourced_id text COLLATE "C", stays boolean, title text, school_sourced_id text COLLATE "C",
    term_sourced_ids text[], schools text[]
) ON COMMIT DROP;
CREATE TEMPORARY TABLE prospect_users (
    sourced_id text COLLATE "C", stays boolean, given_name text, family_name text, role text,
    student boolean, teacher boolean, guardian boolean,
    email text, username text, identifier text,
    graded boolean, agents text[], orgs text[], schools text[]
) ON COMMIT DROP;
CREATE TEMPORARY TABLE prospect_enrollments (
    sourced_id text COLLATE "C", stays boolean, user_sourced_id text COLLATE "C", class_sourced_id text COLLATE "C",
    school_sourced_id text COLLATE "C", role text, begin_date date, end_date date
) ON COMMIT DROP;

-- name: analyze_prospect
ANALYZE prospect_orgs, prospect_academic_sessions, prospect_courses, prospect_classes, prospect_users,
        prospect_enrollments;

-- name: drop_prospect
DROP TABLE prospect_orgs, prospect_academic_sessions, prospect_courses, prospect_classes, prospect_users,
           prospect_enrollments;

-- name: coming
-- The records of a collection as they would be, and those that would go: what was made by hand stays as it is, what is
-- staged comes, what else is held stays. $2 says whether removals are carried out at all.
SELECT record.*, NOT ($2 AND EXISTS (
    SELECT FROM {gone} AS gone WHERE gone.collection = '{collection}' AND gone.sourced_id = record.sourced_id
)) AS stays
FROM (
    SELECT {columns} FROM {staging} AS staged
    WHERE NOT EXISTS (
        SELECT FROM {table} AS made
        WHERE made.integration_no = $1 AND made.sourced_id = staged.sourced_id AND made.origin = 'manual'
    )
    UNION ALL
    SELECT {columns} FROM {table} AS held
    WHERE held.integration_no = $1 AND held.active
      AND (held.origin = 'manual'
           OR NOT EXISTS (SELECT FROM {staging} AS staged WHERE staged.sourced_id = held.sourced_id))
) AS record

-- name: fill_prospect_orgs
INSERT INTO prospect_orgs
SELECT sourced_id, stays, name, type FROM ({coming}) AS record;

-- name: fill_prospect_academic_sessions
INSERT INTO prospect_academic_sessions
SELECT sourced_id, stays, title, type, start_date, end_date FROM ({coming}) AS record;

-- name: fill_prospect_courses
INSERT INTO prospect_courses
SELECT sourced_id, stays, title, org_sourced_id FROM ({coming}) AS record;

-- name: fill_prospect_classes
INSERT INTO prospect_classes
SELECT record.sourced_id, record.stays, record.title, record.school_sourced_id, record.term_sourced_ids,
       CASE WHEN before.school_sourced_id <> record.school_sourced_id
            THEN ARRAY[record.school_sourced_id, before.school_sourced_id] ELSE ARRAY[record.school_sourced_id] END
FROM ({coming}) AS record
LEFT JOIN classes AS before
       ON before.integration_no = $1 AND before.sourced_id = record.sourced_id AND before.active;

-- name: fill_prospect_users
INSERT INTO prospect_users
SELECT record.sourced_id, record.stays, record.given_name, record.family_name,
       (SELECT role.value ->> 'role' FROM jsonb_array_elements(record.roles) AS role
        ORDER BY role.value ->> 'roleType' = 'primary' DESC NULLS LAST LIMIT 1),
       record.roles @> '[{{"role": "student"}}]',
       record.roles @> '[{{"role": "teacher"}}]',
       record.roles @> '[{{"role": "guardian"}}]' OR record.roles @> '[{{"role": "parent"}}]'
           OR record.roles @> '[{{"role": "relative"}}]',
       nullif(lower(btrim(record.email, E' \t\r\n')), ''),
       nullif(lower(btrim(record.username, E' \t\r\n')), ''),
       nullif(lower(btrim(record.identifier, E' \t\r\n')), ''),
       record.grades <> '{{}}',
       record.agent_sourced_ids,
       orgs.after,
       ARRAY(
           SELECT unnest(orgs.after)
           UNION
           SELECT role.value ->> 'orgSourcedId' FROM jsonb_array_elements(before.roles) AS role
           ORDER BY 1
       )
FROM ({coming}) AS record
LEFT JOIN users AS before
       ON before.integration_no = $1 AND before.sourced_id = record.sourced_id AND before.active
CROSS JOIN LATERAL (
    SELECT ARRAY(
        SELECT DISTINCT role.value ->> 'orgSourcedId' FROM jsonb_array_elements(record.roles) AS role ORDER BY 1
    ) AS after
) AS orgs;

-- name: fill_prospect_enrollments
INSERT INTO prospect_enrollments
SELECT record.sourced_id, record.stays, record.user_sourced_id, record.class_sourced_id,
       coalesce(record.school_sourced_id, class.school_sourced_id), record.role, record.begin_date, record.end_date
FROM ({coming}) AS record
LEFT JOIN prospect_classes AS class ON class.sourced_id = record.class_sourced_id;
