-- name: find_held_record
SELECT version, change, active, origin, {columns} FROM {table} AS held WHERE integration_no = $1 AND sourced_id = $2 FOR UPDATE;

-- name: keep_record
-- A row as it is, before it is written by hand.
INSERT INTO history (integration_no, collection, sourced_id, until_apply, before)
SELECT held.integration_no, $3, held.sourced_id, $2, to_jsonb(held)
FROM {table} AS held
WHERE held.integration_no = $1 AND held.sourced_id = ANY ($4::text[])
ON CONFLICT DO NOTHING;

-- name: write_record
-- `fingerprint` 0 for a synced record: whatever the provider has is another, so it comes back (C9).
INSERT INTO {table} AS held (integration_no, changed_by, change_no, version, change, active, origin, {columns})
VALUES ($1, $2, 1, 1, 'added', true, $3::origin, {values})
ON CONFLICT (integration_no, sourced_id) DO UPDATE
SET changed_by = excluded.changed_by,
    change_no = excluded.change_no,
    version = held.version + 1,
    change = CASE WHEN held.active THEN 'updated' ELSE 'added' END::change,
    active = true,
    origin = excluded.origin,
    ({columns}) = ROW ({excluded})
RETURNING version;

-- name: delete_records
-- What was made by hand and is deleted gives its id free: a record the provider sends under it is taken.
UPDATE {table} AS held
SET changed_by = $2,
    change_no = $3 + gone.position,
    version = held.version + 1,
    change = 'removed',
    active = false,
    origin = 'synced',
    fingerprint = 0
FROM (SELECT sourced_id, position FROM unnest($4::text[]) WITH ORDINALITY AS listed (sourced_id, position)) AS gone
WHERE held.integration_no = $1 AND held.sourced_id = gone.sourced_id;

-- name: list_missing_references
-- Of some ids those that no active record of the collection has.
SELECT wanted.sourced_id FROM unnest($2::text[]) AS wanted (sourced_id)
WHERE NOT EXISTS (
    SELECT FROM {table} AS held
    WHERE held.integration_no = $1 AND held.sourced_id = wanted.sourced_id AND held.active
);

-- name: list_followers_of_users
SELECT 'enrollments' AS collection, sourced_id FROM enrollments
WHERE integration_no = $1 AND user_sourced_id = $2 AND active
UNION ALL
SELECT 'demographics', sourced_id FROM demographics WHERE integration_no = $1 AND sourced_id = $2 AND active;

-- name: list_followers_of_classes
SELECT 'enrollments' AS collection, sourced_id FROM enrollments
WHERE integration_no = $1 AND class_sourced_id = $2 AND active;

-- name: count_dependents_of_orgs
SELECT (SELECT count(*) FROM orgs WHERE integration_no = $1 AND active AND parent_sourced_id = $2) AS orgs,
       (SELECT count(*) FROM courses WHERE integration_no = $1 AND active AND org_sourced_id = $2) AS courses,
       (SELECT count(*) FROM classes WHERE integration_no = $1 AND active AND school_sourced_id = $2) AS classes,
       (SELECT count(*) FROM users WHERE integration_no = $1 AND active
          AND roles @> jsonb_build_array(jsonb_build_object('orgSourcedId', $2::text))) AS users,
       (SELECT count(*) FROM enrollments WHERE integration_no = $1 AND active AND school_sourced_id = $2) AS enrollments;

-- name: count_dependents_of_academicSessions
SELECT (SELECT count(*) FROM academic_sessions WHERE integration_no = $1 AND active AND parent_sourced_id = $2) AS "academicSessions",
       (SELECT count(*) FROM courses WHERE integration_no = $1 AND active AND school_year_sourced_id = $2) AS courses,
       (SELECT count(*) FROM classes WHERE integration_no = $1 AND active AND $2 = ANY (term_sourced_ids)) AS classes;

-- name: count_dependents_of_courses
SELECT (SELECT count(*) FROM classes WHERE integration_no = $1 AND active AND course_sourced_id = $2) AS classes;

-- name: move_totals
UPDATE integration SET students = students + $2, teachers = teachers + $3, classes = classes + $4 WHERE no = $1;

-- name: see_record
SELECT {columns}, held.active, held.version, held.origin, held.changed_at,
       (SELECT step.kind FROM roster_served.steps AS step WHERE step.no = held.changed_by) AS kind
FROM roster_served.{table} AS held
WHERE held.sourced_id = $1 AND held.active;
