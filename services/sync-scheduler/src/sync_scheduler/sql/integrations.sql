-- name: add_integration
INSERT INTO integration (
    id, organization, name, provider, sis, region, connection, sealed_secret, options, time_zone, secret_names,
    schedule, schedule_since, guard, approve_first, additions_only, keep_received, takes_over
)
SELECT $1, organization.id, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18
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
    schedule = $10,
    schedule_since = $11,
    guard = $12,
    approve_first = $13,
    additions_only = $14,
    keep_received = $15,
    bookmark = CASE WHEN NOT $7 THEN bookmark END,
    bookmark_gone = CASE WHEN $7 AND last_success_at IS NOT NULL THEN 'edit' ELSE bookmark_gone END,
    edition = edition + $7::boolean::int,
    needs_sync = needs_sync OR $7,
    version = version + (name <> $2)::int,
    updated_at = now()
WHERE id = $1
RETURNING *

-- name: plan_slot
-- Without a schedule nothing is owed either.
UPDATE integration
SET next_slot_at = $2::timestamptz,
    next_slot_why = $3,
    slots_owed = CASE WHEN $2::timestamptz IS NULL THEN 0 ELSE slots_owed END,
    slots_owed_code = CASE WHEN $2::timestamptz IS NOT NULL THEN slots_owed_code END
WHERE id = $1
RETURNING *

-- name: takeover_source
-- A deleted integration keeps its records; only one that is there now can be given them.
SELECT state, (
        SELECT taker.id FROM integration AS taker
        WHERE taker.takes_over = integration.id AND taker.state = 'active'
        LIMIT 1
    ) AS taker
FROM integration
WHERE id = $1 AND organization = $2
FOR NO KEY UPDATE

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
SET state = 'deleted',
    sftp = NULL,
    next_slot_at = NULL,
    slots_owed = 0,
    slots_owed_code = NULL,
    version = version + 1,
    updated_at = now()
WHERE id = $1

-- name: lock_integrations_of_runs
-- Integrations are locked before their runs, everywhere, so that nobody waits in a circle.
SELECT 1 FROM integration
WHERE id IN (SELECT integration FROM run WHERE id = ANY ($1::uuid[]))
ORDER BY id
FOR NO KEY UPDATE

-- name: note_success
-- Settings edited since the applied attempt ($2) went out still want their sync, and nothing may build on it. A fetch
-- that left no bookmark ($4) leaves none at all, whoever it was made for; $5 says why. One of which something is held
-- leaves the bookmark before it, for refreshes only. What comes so late that a newer sync was applied meanwhile changes
-- nothing.
UPDATE integration
SET last_success_at = coalesce(run.finished_at, now()),
    last_full_at = CASE WHEN $3 = 'full' THEN run.started_at ELSE integration.last_full_at END,
    bookmark = CASE
        WHEN $5 = 'hold' THEN integration.bookmark
        WHEN fits.yes THEN $4::jsonb
        WHEN $4::jsonb IS NOT NULL THEN integration.bookmark
    END,
    bookmark_gone = CASE
        WHEN fits.yes AND $4::jsonb IS NULL THEN $5
        WHEN NOT fits.yes THEN integration.bookmark_gone
    END,
    needs_sync = integration.needs_sync AND NOT fits.yes
FROM run, LATERAL (
    SELECT run.attempt = $2 AND run.edition IS NOT DISTINCT FROM (
        SELECT edition FROM integration WHERE id = run.integration
    ) AS yes
) AS fits
WHERE run.id = $1 AND integration.id = run.integration
    AND NOT EXISTS (
        SELECT FROM run AS newer
        WHERE newer.integration = run.integration
            AND newer.number > run.number
            AND newer.kind IN ('sync', 'restore')
            AND newer.state IN ('succeeded', 'partial', 'held')
    )

-- name: note_hold
-- While something waits, the next sync compares everything; the bookmark stays for refreshes.
UPDATE integration
SET bookmark_gone = 'hold'
FROM run
WHERE run.id = $1 AND integration.id = run.integration

-- name: note_restore
-- The roster is not what the provider last showed: nothing may build on that, and it is to be fetched again.
UPDATE integration
SET bookmark = NULL, bookmark_gone = 'restore', needs_sync = true
FROM run
WHERE run.id = $1 AND integration.id = run.integration

-- name: pause_for_restore
-- Until somebody resumes; the next sync would undo what was brought back, or take the place of what waits.
UPDATE integration
SET paused_at = coalesce(integration.paused_at, now()),
    paused_until = NULL,
    pause_reason = $2,
    paused_by = run.created_by,
    updated_at = now()
FROM run
WHERE run.id = $1 AND integration.id = run.integration
    AND (integration.paused_at IS NULL OR integration.paused_until IS NOT NULL)
RETURNING integration.id, integration.organization, run.created_by

-- name: set_sftp
UPDATE integration SET sftp = $2, version = version + 1, updated_at = now()
WHERE id = $1
RETURNING *
