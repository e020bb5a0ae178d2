-- name: plan_upserts
SELECT count(*) FILTER (WHERE held.sourced_id IS NULL OR (held.origin = 'synced' AND NOT held.active)) AS added,
       count(*) FILTER (WHERE held.origin = 'synced' AND held.active AND held.fingerprint <> staged.fingerprint) AS changed,
       count(*) FILTER (WHERE held.origin = 'manual') AS manual
FROM {staging} AS staged
LEFT JOIN {table} AS held ON held.integration_no = $1 AND held.sourced_id = staged.sourced_id;

-- name: plan_first
SELECT count(*) AS added, 0 AS changed, 0 AS manual FROM {staging};

-- name: drop_rivals
DELETE FROM roster_staging.{staging} AS rival
USING (
    SELECT ctid AS place, row_number() OVER (PARTITION BY sourced_id ORDER BY fingerprint DESC, ctid) AS rank
    FROM roster_staging.{staging}
) AS ranked
WHERE rival.ctid = ranked.place AND ranked.rank > 1;

-- name: analyze_staging
ANALYZE roster_staging.{staging};

-- name: forbid_nested_loops
SET LOCAL enable_nestloop = off;

-- name: allow_nested_loops
SET LOCAL enable_nestloop = on;

-- name: list_removal_collections
SELECT DISTINCT collection FROM roster_staging.{staging} WHERE reason <> 'unproved';

-- name: find_gone
INSERT INTO {gone} (collection, sourced_id, reason)
SELECT $2, held.sourced_id, staged.reason
FROM (
    SELECT key, min(reason) AS reason FROM roster_staging.{staging}
    WHERE collection = $2 AND reason <> 'unproved' GROUP BY key
) AS staged
JOIN {table} AS held ON held.integration_no = $1 AND held.key = staged.key
WHERE held.active AND held.origin = 'synced';

-- name: count_gone
SELECT collection, count(*) FROM {gone} GROUP BY collection;

-- name: count_missed
SELECT collection, count(*) FROM {gone} WHERE reason = 'missed twice' GROUP BY collection;

-- name: holds_any
SELECT EXISTS (SELECT FROM {table} WHERE integration_no = $1 AND active AND origin = 'synced');

-- name: take_apply_no
WITH locked AS MATERIALIZED (SELECT pg_advisory_lock(hashtextextended('roster.apply', 0))),
     identified AS MATERIALIZED (SELECT pg_current_xact_id() AS xid FROM locked),
     numbered AS MATERIALIZED (SELECT nextval('apply_no') AS no, xid FROM identified)
SELECT no, xid::text AS xid, pg_advisory_unlock(hashtextextended('roster.apply', 0)) AS unlocked FROM numbered;

-- name: insert_apply
INSERT INTO apply (no, xid, integration_no, run_id, applied_at, segments, counts)
VALUES ($1, $2::text::xid8, $3, $4, now(), $5, $6);

-- name: insert_all
INSERT INTO {table} (integration_no, changed_by, change_no, version, change, active, {columns})
SELECT $1, $2, $3 + row_number() OVER (), 1, 'added', true, {columns}
FROM {staging};

-- name: upsert
INSERT INTO {table} AS held (integration_no, changed_by, change_no, version, change, active, {columns})
SELECT $1, $2, $3 + row_number() OVER (), 1, 'added', true, {columns}
FROM {staging}
ON CONFLICT (integration_no, sourced_id) DO UPDATE
SET changed_by = excluded.changed_by,
    change_no = excluded.change_no,
    version = held.version + 1,
    change = CASE WHEN held.active THEN 'updated' ELSE 'added' END::change,
    active = true,
    ({columns}) = ROW ({excluded})
WHERE held.origin = 'synced' AND (NOT held.active OR held.fingerprint <> excluded.fingerprint);

-- name: remove
UPDATE {table} AS held
SET changed_by = $2,
    change_no = $3 + gone.position,
    version = held.version + 1,
    change = 'removed',
    active = false,
    fingerprint = 0
FROM (
    SELECT sourced_id, reason, row_number() OVER ()::int AS position FROM {gone} WHERE collection = $4
) AS gone
WHERE held.integration_no = $1 AND held.sourced_id = gone.sourced_id AND held.active
  AND (held.origin = 'synced' OR gone.reason = 'reference');

-- name: revive_followers
-- What was made by hand and went with its class or person comes back with them. What is deleted by hand is not manual
-- any more, so it stays deleted.
WITH back AS MATERIALIZED (
    SELECT held.sourced_id, row_number() OVER ()::int AS position
    FROM {table} AS held
    WHERE held.integration_no = $1 AND held.origin = 'manual' AND NOT held.active AND held.changed_by <> $2
      AND {followed}
),
kept AS (
    INSERT INTO history (integration_no, collection, sourced_id, until_apply, before)
    SELECT held.integration_no, $4, held.sourced_id, $2, to_jsonb(held)
    FROM back JOIN {table} AS held ON held.integration_no = $1 AND held.sourced_id = back.sourced_id
    ON CONFLICT DO NOTHING
),
revived AS (
    UPDATE {table} AS held
    SET changed_by = $2, change_no = $3 + back.position, version = held.version + 1, change = 'added', active = true
    FROM back
    WHERE held.integration_no = $1 AND held.sourced_id = back.sourced_id
    RETURNING 1
)
SELECT count(*) FROM revived;

-- name: holds_records
SELECT EXISTS (SELECT FROM {table} WHERE integration_no = $1);

-- name: list_kept
-- Staged records whose ids records made by hand have.
SELECT held.sourced_id
FROM {staging} AS staged
JOIN {table} AS held ON held.integration_no = $1 AND held.sourced_id = staged.sourced_id
WHERE held.origin = 'manual'
ORDER BY held.sourced_id
LIMIT $2;

-- name: count_active
SELECT (SELECT count(*) FROM users WHERE integration_no = $1 AND active AND roles @> '[{"role": "student"}]') AS students,
       (SELECT count(*) FROM users WHERE integration_no = $1 AND active AND roles @> '[{"role": "teacher"}]') AS teachers,
       (SELECT count(*) FROM classes WHERE integration_no = $1 AND active) AS classes;

-- name: finish_integration
UPDATE integration SET last_apply = $2, students = $3, teachers = $4, classes = $5 WHERE no = $1;

-- name: count_staged
SELECT count(*) FROM {staging};
