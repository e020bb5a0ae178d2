-- name: add_run
-- Nothing happens where another run is active.
INSERT INTO run (
    id, integration, mode, mode_code, today, upload, created_by, headers, deadline_at,
    kind, slot, options, class_sourced_id, teacher_sourced_id, restores
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now() + $9::interval, $10, $11, $12, $13, $14, $15)
ON CONFLICT DO NOTHING

-- name: begun_run
-- The run of that id ($2), or else the one that stood in its way.
SELECT id FROM run
WHERE integration = $1 AND (id = $2 OR state IN ('queued', 'fetching', 'applying'))
ORDER BY id = $2 DESC
LIMIT 1

-- name: active_run
SELECT id FROM run WHERE integration = $1 AND state IN ('queued', 'fetching', 'applying')

-- name: run
SELECT run.*, upload.number AS upload_number, upload.received_at AS upload_received_at, integration.keep_received
FROM run
JOIN integration ON integration.id = run.integration
LEFT JOIN upload ON upload.id = run.upload
WHERE run.id = $1 AND ($2::uuid IS NULL OR integration.organization = $2)

-- name: runs
-- One page of an integration's runs, newest first; with $4 and $5 only those in that state, or of that kind.
SELECT run.*, upload.number AS upload_number, upload.received_at AS upload_received_at, integration.keep_received
FROM run
JOIN integration ON integration.id = run.integration
LEFT JOIN upload ON upload.id = run.upload
WHERE run.integration = $1 AND run.number < $2
    AND ($4::text IS NULL OR run.state = $4)
    AND ($5::text IS NULL OR run.kind = $5)
ORDER BY run.number DESC
LIMIT $3

-- name: lock_runs
SELECT * FROM run WHERE id = ANY ($1::uuid[])
ORDER BY id
FOR NO KEY UPDATE

-- name: save_run
UPDATE run
SET state = $2,
    code = $3,
    detail = $4,
    attempt = $5,
    not_before = $6,
    fetch_id = $7,
    worker = $8,
    heartbeat_at = $9,
    progress = $10,
    counts = $11,
    issues = $12,
    matched_students = $13,
    matched_teachers = $14,
    imported_classes = $15,
    cancel_requested = $16,
    started_at = $17,
    finished_at = $18,
    mode = $19,
    mode_code = $20,
    deadline_at = $21,
    plan = $22,
    hold = $23,
    hold_expires_at = $24,
    unmatched_users = $25,
    matching = $26
WHERE id = $1

-- name: save_heartbeat
UPDATE run SET heartbeat_at = $2, progress = $3 WHERE id = $1

-- name: set_mode
UPDATE run SET mode = $2, mode_code = NULL WHERE id = $1

-- name: save_stop
UPDATE run SET stop_below = greatest(stop_below, $2), stop_reason = $3, stop_due_at = now() WHERE id = $1

-- name: add_entry
-- A step stands once in an attempt, however often it is reported.
INSERT INTO run_entry (run, attempt, step, code, sentence) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (run, attempt, step) DO NOTHING

-- name: entries
SELECT * FROM run_entry WHERE run = $1 ORDER BY id

-- name: wake
-- Delivered at commit: a worker looks at once instead of at its next round.
SELECT pg_notify('sync_scheduler', '')
