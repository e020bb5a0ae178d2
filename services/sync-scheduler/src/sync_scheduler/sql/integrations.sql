-- name: add_integration
INSERT INTO integration (id, organization, name, provider, sis, region, connection, sealed_secret, options)
SELECT $1, organization.id, $3, $4, $5, $6, $7, $8, $9
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
-- $7 says whether a finished sync no longer is what the settings ask for.
UPDATE integration
SET name = $2,
    sis = $3,
    connection = $4,
    sealed_secret = $5,
    options = $6,
    edition = edition + $7::boolean::int,
    needs_sync = needs_sync OR $7,
    version = version + (name <> $2)::int,
    updated_at = now()
WHERE id = $1
RETURNING *

-- name: reset_integration
UPDATE integration
SET last_full_at = NULL, needs_sync = true, edition = edition + 1, updated_at = now()
WHERE id = $1
RETURNING *

-- name: delete_integration
UPDATE integration
SET state = 'deleted', version = version + 1, updated_at = now()
WHERE id = $1

-- name: lock_integrations_of_runs
-- Integrations are locked before their runs, everywhere, so that nobody waits in a circle.
SELECT 1 FROM integration
WHERE id IN (SELECT integration FROM run WHERE id = ANY ($1::uuid[]))
ORDER BY id
FOR NO KEY UPDATE

-- name: note_success
-- Settings edited since the applied attempt ($2) went out still want their sync.
UPDATE integration
SET last_success_at = run.finished_at,
    last_full_at = run.started_at,
    needs_sync = integration.needs_sync AND NOT (run.attempt = $2 AND run.edition = integration.edition)
FROM run
WHERE run.id = $1 AND integration.id = run.integration
