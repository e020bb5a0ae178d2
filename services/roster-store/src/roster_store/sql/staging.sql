-- name: lock_integration
SELECT no, id, organization_id, provider, last_apply, newest_run, newest_attempt, students, teachers, classes
FROM integration WHERE id = $1 FOR UPDATE;

-- name: insert_integration
INSERT INTO integration AS held (id, organization_id, provider) VALUES ($1, $2, $3)
ON CONFLICT (id) DO UPDATE SET provider = excluded.provider
WHERE excluded.provider NOT IN ('', held.provider);

-- name: fence_integration
UPDATE integration SET newest_run = $2, newest_attempt = $3 WHERE no = $1;

-- name: insert_fetch
INSERT INTO staged_fetch (id, integration_no, run_id, run_number, attempt, basis, terms)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (id) DO NOTHING;

-- name: find_fetch
SELECT no, id, integration_no, run_id, run_number, attempt, basis, state, outcome FROM staged_fetch WHERE id = $1;

-- name: lock_fetch
SELECT no, id, integration_no, run_id, run_number, attempt, basis, state, outcome, terms
FROM staged_fetch WHERE id = $1 FOR UPDATE;

-- name: list_overtaken
SELECT no FROM staged_fetch WHERE integration_no = $1 AND state = 'staging' AND id <> $2;

-- name: end_fetch
UPDATE staged_fetch SET state = $2, outcome = $3, finished_at = now() WHERE no = $1;

-- name: stage_chunks
INSERT INTO staged_chunk (fetch_no, seq) SELECT $1, unnest($2::int[]) ON CONFLICT DO NOTHING RETURNING seq;

-- name: count_chunks
SELECT count(*) FROM staged_chunk WHERE fetch_no = $1 AND seq < $2;

-- name: forget_chunks
DELETE FROM staged_chunk WHERE fetch_no = $1;

-- name: create_staging
CREATE UNLOGGED TABLE IF NOT EXISTS roster_staging.{staging} (LIKE {fields}) WITH (autovacuum_enabled = false);

-- name: list_staging
SELECT relname FROM pg_class
WHERE relnamespace = 'roster_staging'::regnamespace AND relkind = 'r' AND starts_with(relname, $1);

-- name: drop_staging
DROP TABLE IF EXISTS roster_staging.{staging};
