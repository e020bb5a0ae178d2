-- name: add_integration
INSERT INTO integration (
    id, organization, name, provider, sis, region, connection, sealed_secret, options, time_zone, secret_names
)
SELECT $1, organization.id, $3, $4, $5, $6, $7, $8, $9, $10, $11
FROM organization
WHERE organization.id = $2
ON CONFLICT (id) DO NOTHING

-- name: integration
SELECT * FROM integration WHERE id = $1 AND ($2::uuid IS NULL OR organization = $2)

-- name: lock_integration
SELECT * FROM integration WHERE id = $1 AND ($2::uuid IS NULL OR organization = $2)
FOR NO KEY UPDATE

-- name: integrations
-- One page, oldest first; with $1 only those of that organization. Deleted ones are still told of.
SELECT * FROM integration
WHERE ($1::uuid IS NULL OR organization = $1) AND position > $2
ORDER BY position
LIMIT $3

-- name: edit_integration
-- $7 says whether a finished sync no longer is what the settings ask for, and nothing may build on it.
UPDATE integration
SET name = $2,
    sis = $3,
    connection = $4,
    sealed_secret = $5,
    options = $6,
    time_zone = $8,
    secret_names = $9,
    bookmark = CASE WHEN NOT $7 THEN bookmark END,
    bookmark_gone = CASE WHEN $7 AND last_success_at IS NOT NULL THEN 'edit' ELSE bookmark_gone END,
    edition = edition + $7::boolean::int,
    needs_sync = needs_sync OR $7,
    version = version + (name <> $2)::int,
    updated_at = now()
WHERE id = $1
RETURNING *

-- name: reset_integration
UPDATE integration
SET last_full_at = NULL,
    bookmark = NULL,
    bookmark_gone = 'reset',
    needs_sync = true,
    edition = edition + 1,
    updated_at = now()
WHERE id = $1
RETURNING *

-- name: delete_integration
UPDATE integration
SET state = 'deleted', sftp = NULL, version = version + 1, updated_at = now()
WHERE id = $1

-- name: lock_integrations_of_runs
-- Integrations are locked before their runs, everywhere, so that nobody waits in a circle.
SELECT 1 FROM integration
WHERE id IN (SELECT integration FROM run WHERE id = ANY ($1::uuid[]))
ORDER BY id
FOR NO KEY UPDATE

-- name: note_success
-- Settings edited since the applied attempt ($2) went out still want their sync, and nothing may build on it. A fetch
-- that left no bookmark ($4) leaves none at all, whoever it was made for.
UPDATE integration
SET last_success_at = run.finished_at,
    last_full_at = CASE WHEN $3 = 'full' THEN run.started_at ELSE integration.last_full_at END,
    bookmark = CASE WHEN fits.yes THEN $4::jsonb WHEN $4::jsonb IS NOT NULL THEN integration.bookmark END,
    bookmark_gone = CASE WHEN fits.yes AND $4::jsonb IS NULL THEN 'sync' ELSE integration.bookmark_gone END,
    needs_sync = integration.needs_sync AND NOT fits.yes
FROM run, LATERAL (
    SELECT run.attempt = $2 AND run.edition IS NOT DISTINCT FROM (
        SELECT edition FROM integration WHERE id = run.integration
    ) AS yes
) AS fits
WHERE run.id = $1 AND integration.id = run.integration

-- name: set_sftp
UPDATE integration SET sftp = $2, version = version + 1, updated_at = now()
WHERE id = $1
RETURNING *
