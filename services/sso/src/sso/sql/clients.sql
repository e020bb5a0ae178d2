-- name: find_client
SELECT id, secret_hash, scopes, organization_id, created_at, last_used_at, disabled_at FROM client WHERE id = $1

-- name: list_clients
SELECT id, scopes, organization_id, created_at, last_used_at, disabled_at FROM client
WHERE id > $1 AND ($2::uuid IS NULL OR organization_id = $2)
ORDER BY id LIMIT $3

-- name: create_client
INSERT INTO client (id, secret_hash, scopes, organization_id) VALUES ($1, $2, $3, $4)
ON CONFLICT (id) DO NOTHING
RETURNING id, scopes, organization_id, created_at, last_used_at, disabled_at

-- name: declare_client
-- The operator's word: what is declared holds, but who was disabled stays so unless that is undone on purpose.
INSERT INTO client (id, secret_hash, scopes, organization_id) VALUES ($1, $2, $3, $4)
ON CONFLICT (id) DO UPDATE SET
    secret_hash = excluded.secret_hash,
    scopes = excluded.scopes,
    organization_id = excluded.organization_id,
    disabled_at = CASE WHEN $5 THEN NULL ELSE client.disabled_at END

-- name: disable_client
UPDATE client SET disabled_at = coalesce(disabled_at, now())
WHERE id = $1 AND ($2::uuid IS NULL OR organization_id = $2)
RETURNING id

-- name: note_use
UPDATE client SET last_used_at = now()
WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')
