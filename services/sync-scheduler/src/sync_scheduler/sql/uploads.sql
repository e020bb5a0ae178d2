-- name: add_upload
-- Hearing of it again changes nothing; nobody's or a deleted integration's files are of no use. Numbers have no gaps:
-- changes build on the set before them. The integration is locked.
INSERT INTO upload (id, number, integration, via, files, bytes, digest, received_at)
SELECT $1, 1 + coalesce((SELECT max(number) FROM upload WHERE integration = $2), 0), integration.id, $3, $4, $5, $6, $7
FROM integration
WHERE integration.id = $2 AND integration.state = 'active' AND integration.provider = ANY ($8::text[])
ON CONFLICT (id) DO NOTHING
RETURNING id

-- name: next_upload
-- The oldest that waits, for changes build on each other; without one the newest, once more.
SELECT id FROM upload
WHERE integration = $1 AND state IN ('pending', 'used', 'failed')
ORDER BY state = 'pending' DESC, CASE WHEN state = 'pending' THEN number ELSE -number END
LIMIT 1

-- name: upload_waits
SELECT EXISTS (SELECT FROM upload WHERE integration = $1 AND state = 'pending')

-- name: due_uploads
-- Integrations with files that wait, and no run or pause that stands in their way.
SELECT * FROM integration
WHERE state = 'active'
    AND (paused_at IS NULL OR paused_until <= now())
    AND (uploads_after IS NULL OR uploads_after <= now())
    AND EXISTS (SELECT FROM upload WHERE upload.integration = integration.id AND upload.state = 'pending')
    AND NOT EXISTS (
        SELECT FROM run
        WHERE run.integration = integration.id AND run.state IN ('queued', 'fetching', 'applying')
    )
ORDER BY position
LIMIT $1
FOR NO KEY UPDATE SKIP LOCKED

-- name: delay_uploads
UPDATE integration SET uploads_after = now() + $2::interval WHERE id = $1

-- name: settle_upload
-- What became of the set a run was about.
UPDATE upload SET state = $2, code = $3
FROM run
WHERE run.id = $1 AND upload.id = run.upload AND upload.state <> 'dropped'

-- name: drop_uploads
UPDATE upload SET state = 'dropped' WHERE integration = $1 AND state = 'pending'
