-- name: lock_taken
SELECT no, organization_id FROM integration WHERE id = $1 FOR UPDATE;

-- name: create_taken
CREATE UNLOGGED TABLE {taken} (LIKE taken_fields) WITH (autovacuum_enabled = false);

-- name: take_over
-- Only whose it is changes here; what the plan makes of it, and its version, come with the apply.
WITH moved AS (
    UPDATE {table} AS held
    SET integration_no = $1
    FROM {staging} AS staged
    WHERE held.integration_no = $2 AND held.sourced_id = staged.sourced_id
      AND NOT EXISTS (
          SELECT FROM {table} AS own WHERE own.integration_no = $1 AND own.sourced_id = staged.sourced_id
      )
    RETURNING held.sourced_id
),
kept AS (
    INSERT INTO {taken} (collection, sourced_id, integration_no) SELECT $3, sourced_id, $2 FROM moved
)
SELECT count(*) FROM moved;

-- name: take_enrollments
-- Who is in a class is told by whoever tells the class: its other enrollments come along, to go.
WITH moved AS (
    UPDATE enrollments AS held
    SET integration_no = $1
    FROM {taken} AS class
    WHERE class.collection = 'classes' AND class.sourced_id = held.class_sourced_id
      AND held.integration_no = $2 AND held.active AND held.origin = 'synced'
      AND NOT EXISTS (
          SELECT FROM enrollments AS own WHERE own.integration_no = $1 AND own.sourced_id = held.sourced_id
      )
    RETURNING held.sourced_id
),
kept AS (
    INSERT INTO {taken} (collection, sourced_id, integration_no) SELECT 'enrollments', sourced_id, $2 FROM moved
),
going AS (
    INSERT INTO {gone} (collection, sourced_id, reason) SELECT 'enrollments', sourced_id, 'taken over' FROM moved
)
SELECT count(*) FROM moved;

-- name: give_back_unstaged
WITH left_out AS (
    DELETE FROM {taken} AS taken
    WHERE taken.collection = $2
      AND NOT EXISTS (SELECT FROM {staging} AS staged WHERE staged.sourced_id = taken.sourced_id)
      AND NOT EXISTS (
          SELECT FROM {gone} AS gone WHERE gone.collection = $2 AND gone.sourced_id = taken.sourced_id
      )
    RETURNING sourced_id, integration_no
)
UPDATE {table} AS held SET integration_no = left_out.integration_no
FROM left_out
WHERE held.integration_no = $1 AND held.sourced_id = left_out.sourced_id;

-- name: give_back
UPDATE {table} AS held SET integration_no = taken.integration_no
FROM {taken} AS taken
WHERE taken.collection = $2 AND held.integration_no = $1 AND held.sourced_id = taken.sourced_id;

-- name: count_taken
SELECT taken.collection, count(*) FROM {taken} AS taken GROUP BY taken.collection;

-- name: count_taken_unchanged
SELECT count(*)
FROM {taken} AS taken
JOIN {table} AS held ON held.integration_no = $1 AND held.sourced_id = taken.sourced_id
LEFT JOIN {staging} AS staged ON staged.sourced_id = taken.sourced_id
WHERE taken.collection = $2
  AND NOT (staged.sourced_id IS NOT NULL AND held.origin = 'synced'
           AND (NOT held.active OR held.fingerprint <> staged.fingerprint))
  AND NOT EXISTS (SELECT FROM {gone} AS gone WHERE gone.collection = $2 AND gone.sourced_id = taken.sourced_id);

-- name: stamp_taken
WITH stamped AS (
    UPDATE {table} AS held
    SET changed_by = $2,
        change_no = $3 + taken.position,
        version = held.version + 1,
        change = CASE WHEN held.active THEN 'updated' ELSE 'removed' END::change
    FROM (
        SELECT sourced_id, row_number() OVER ()::int AS position FROM {taken} WHERE collection = $4
    ) AS taken
    WHERE held.integration_no = $1 AND held.sourced_id = taken.sourced_id AND held.changed_by <> $2
      AND NOT EXISTS (SELECT FROM {gone} AS gone WHERE $5 AND gone.collection = $4 AND gone.sourced_id = held.sourced_id)
    RETURNING change_no
)
SELECT coalesce(max(change_no) - $3, 0) FROM stamped;

-- name: close_taken
-- What the other integration still had under way was compared with rows that are not its own any more.
UPDATE integration SET last_apply = $2, students = $3, teachers = $4, classes = $5 WHERE no = $1;

-- name: list_taken_from
SELECT DISTINCT integration_no FROM {taken};
