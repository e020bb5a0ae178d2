-- name: add_link
INSERT INTO credential_link (id, integration, token_hash, note, notify, created_by, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, now() + $7::interval)
ON CONFLICT (id) DO NOTHING

-- name: link
SELECT credential_link.*, integration.organization, clock_timestamp() AS now
FROM credential_link JOIN integration ON integration.id = credential_link.integration
WHERE credential_link.id = $1 AND ($2::uuid IS NULL OR integration.organization = $2)

-- name: links
-- One page, newest first.
SELECT *, clock_timestamp() AS now FROM credential_link
WHERE integration = $1 AND position < $2
ORDER BY position DESC
LIMIT $3

-- name: usable_link
-- Used, revoked, expired, locked and unknown ones are all the same: not there.
SELECT credential_link.id AS link, credential_link.note, credential_link.notify, credential_link.tries,
    credential_link.created_by, integration.*, organization.name AS organization_name
FROM credential_link
JOIN integration ON integration.id = credential_link.integration
JOIN organization ON organization.id = integration.organization
WHERE credential_link.token_hash = $1
    AND credential_link.used_at IS NULL
    AND credential_link.revoked_at IS NULL
    AND credential_link.expires_at > clock_timestamp()
    AND credential_link.tries < $2
    AND integration.state = 'active'

-- name: count_try
-- Whoever comes too late, or once too often, gets no row.
UPDATE credential_link SET tries = tries + 1
WHERE id = $1 AND used_at IS NULL AND revoked_at IS NULL AND expires_at > clock_timestamp() AND tries < $2
RETURNING tries

-- name: use_link
-- Once: of two that come together, the second finds no row. One that expired while it was verified is still good.
UPDATE credential_link SET used_at = now(), outcome_code = NULL, outcome_at = now()
WHERE id = $1 AND used_at IS NULL AND revoked_at IS NULL
RETURNING id

-- name: note_link_outcome
UPDATE credential_link SET outcome_code = $2, outcome_at = now() WHERE id = $1 AND used_at IS NULL

-- name: revoke_link
UPDATE credential_link SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1 AND used_at IS NULL

-- name: save_connection
-- As an edit that enters the secrets again: a sync is wanted, and nothing builds on what was fetched before.
UPDATE integration
SET connection = $2,
    sealed_secret = $3,
    secret_names = $4,
    bookmark = NULL,
    bookmark_gone = CASE WHEN last_success_at IS NOT NULL THEN 'edit' ELSE bookmark_gone END,
    edition = edition + 1,
    needs_sync = true,
    updated_at = now()
WHERE id = $1
RETURNING *
