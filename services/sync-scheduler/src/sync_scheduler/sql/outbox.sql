-- name: unpublished_runs
SELECT run.id, run.number, run.attempt, run.mode, run.deadline_at, run.headers, run.today, run.upload,
    integration.id AS integration, integration.organization, integration.provider, integration.region,
    integration.connection, integration.sealed_secret, integration.options, integration.edition, integration.sis,
    integration.bookmark, upload.number AS upload_number, upload.received_at AS upload_received_at
FROM run
JOIN integration ON integration.id = run.integration
LEFT JOIN upload ON upload.id = run.upload
WHERE run.state = 'queued'
    AND run.published_attempt < run.attempt
    AND (run.not_before IS NULL OR run.not_before <= now())
ORDER BY run.number
LIMIT $1
FOR NO KEY UPDATE OF run SKIP LOCKED

-- name: mark_published
UPDATE run SET published_attempt = $2, edition = $3 WHERE id = $1

-- name: stops_due
SELECT id, stop_below, stop_reason, state IN ('queued', 'fetching', 'applying') AND cancel_requested AS again
FROM run
WHERE stop_due_at <= now()
ORDER BY stop_due_at
LIMIT $1
FOR NO KEY UPDATE SKIP LOCKED

-- name: mark_stop
-- A worker that did not hear it is told again, until it has answered.
UPDATE run SET stop_due_at = CASE WHEN $2 THEN now() + $3::interval END WHERE id = $1

-- name: unpublished_organizations
SELECT * FROM organization WHERE published_version < version
ORDER BY position
LIMIT $1
FOR NO KEY UPDATE SKIP LOCKED

-- name: unpublished_integrations
SELECT * FROM integration WHERE published_version < version
ORDER BY position
LIMIT $1
FOR NO KEY UPDATE SKIP LOCKED

-- name: mark_organization
UPDATE organization SET published_version = $2 WHERE id = $1

-- name: mark_integration
UPDATE integration SET published_version = $2 WHERE id = $1

-- name: overdue_runs
-- Silent workers and passed deadlines, by the database's clock.
SELECT * FROM run
WHERE state IN ('queued', 'fetching', 'applying')
    AND (deadline_at <= now() OR state = 'fetching' AND heartbeat_at <= now() - $1::interval)
ORDER BY number
LIMIT $2
FOR NO KEY UPDATE SKIP LOCKED

-- name: fetching_runs
SELECT count(*) FROM run WHERE state = 'fetching'

-- name: now
-- The time itself: a transaction that waited for a lock began some time ago.
SELECT clock_timestamp()

-- name: oldest_heartbeat
SELECT coalesce(extract(epoch FROM now() - min(heartbeat_at)), 0)::float8 FROM run WHERE state = 'fetching'
