-- name: waits_for_teachers
-- Whether a product's classes of an organization wait for their teachers now; null where it is not licensed.
SELECT teacher_started FROM access
WHERE product_id = $1 AND organization_id = $2 AND live AND until > now();

-- name: list_connected
-- Of some people those who came in before.
SELECT awake.product_id, integration.id AS integration_id, awake.sourced_id
FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS came (product_id, integration_id, sourced_id)
JOIN integration ON integration.id = came.integration_id
JOIN activation AS awake ON awake.product_id = came.product_id AND awake.integration_no = integration.no
     AND awake.collection = 'users' AND awake.sourced_id = came.sourced_id;

-- name: insert_activation
INSERT INTO activation (product_id, integration_no, collection, sourced_id, apply_no, at, by)
VALUES ($1, $2, $3, $4, $5, coalesce($6::timestamptz, now()), $7)
ON CONFLICT DO NOTHING
RETURNING at;

-- name: find_activation
SELECT at, by FROM activation
WHERE product_id = $1 AND integration_no = $2 AND collection = $3 AND sourced_id = $4;

-- name: tell_activation
-- From which step on it counts as awake; until then it was written down and nothing else.
UPDATE activation SET apply_no = $5
WHERE product_id = $1 AND integration_no = $2 AND collection = $3 AND sourced_id = $4;

-- name: find_integration_of
SELECT no, organization_id FROM integration WHERE id = $1;

-- name: find_startable_class
SELECT title FROM roster_served.classes WHERE sourced_id = $1 AND active;

-- name: teaches_class
-- Whether a teacher who is there has an enrollment as teacher in a class.
SELECT EXISTS (
    SELECT FROM roster_served.enrollments
    WHERE class_sourced_id = $1 AND user_sourced_id = $2 AND active AND role = 'teacher'
) AND EXISTS (SELECT FROM roster_served.users WHERE sourced_id = $2 AND active);

-- name: list_taught_classes
-- The classes somebody teaches: never who else is in them.
SELECT class.sourced_id, class.title, class.class_code, class.class_type, class.location, class.school_sourced_id,
       class.course_sourced_id, class.term_sourced_ids, class.grades, class.subjects, class.periods,
       bool_or(mine."primary") AS "primary"
FROM roster_served.enrollments AS mine
JOIN roster_served.classes AS class ON class.sourced_id = mine.class_sourced_id AND class.active
WHERE mine.user_sourced_id = $1 AND mine.active AND mine.role = 'teacher'
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
ORDER BY class.sourced_id
LIMIT $2;

-- name: list_started
SELECT sourced_id, at, by FROM activation
WHERE product_id = $1 AND integration_no = $2 AND collection = 'classes' AND sourced_id = ANY ($3);

-- name: take_activation
-- What was awake stays awake with whoever takes it over (C8).
INSERT INTO activation (product_id, integration_no, collection, sourced_id, apply_no, at, by)
SELECT awake.product_id, $1, awake.collection, awake.sourced_id, awake.apply_no, awake.at, awake.by
FROM {taken} AS taken
JOIN activation AS awake ON awake.integration_no = taken.integration_no AND awake.collection = taken.collection
     AND awake.sourced_id = taken.sourced_id
ON CONFLICT DO NOTHING;
