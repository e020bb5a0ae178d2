-- name: find_client
SELECT *, CASE WHEN previous_until > now() THEN previous_hash END AS other_hash,
    last_used_at IS NULL OR last_used_at < now() - interval '1 minute' AS unnoted
FROM client WHERE id = $1

-- name: list_clients
SELECT * FROM client
WHERE id > $1 AND ($2::uuid IS NULL OR organization_id = $2) AND ($4::uuid IS NULL OR product_id = $4)
ORDER BY id LIMIT $3

-- name: create_client
INSERT INTO client (id, secret_hash, scopes, organization_id, product_id) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (id) DO NOTHING
RETURNING *

-- name: declare_client
-- The operator's word: what is declared holds, but who was disabled stays so unless that is undone on purpose.
INSERT INTO client (id, secret_hash, scopes, organization_id, product_id, declared) VALUES ($1, $2, $3, $4, $5, $7)
ON CONFLICT (id) DO UPDATE SET
    secret_hash = excluded.secret_hash,
    previous_hash = NULL,
    previous_until = NULL,
    scopes = excluded.scopes,
    organization_id = excluded.organization_id,
    product_id = excluded.product_id,
    declared = excluded.declared,
    disabled_at = CASE WHEN $6 THEN NULL ELSE client.disabled_at END

-- name: release_clients
-- Clients the operator no longer declares are as any other.
UPDATE client SET declared = false WHERE declared AND id <> ALL ($1::text[])

-- name: disable_client
UPDATE client SET disabled_at = coalesce(client.disabled_at, now())
FROM (
    SELECT id, disabled_at FROM client
    WHERE id = $1 AND ($2::uuid IS NULL OR organization_id = $2)
    FOR NO KEY UPDATE
) AS found
WHERE client.id = found.id
RETURNING client.*, found.disabled_at IS NULL AS newly

-- name: lock_client
SELECT * FROM client
WHERE id = $1 AND ($2::uuid IS NULL OR organization_id = $2) AND disabled_at IS NULL
FOR NO KEY UPDATE

-- name: change_secret
-- Of three secrets the newest, and of the two before it the one in use: where nobody ever came with the newest one, that
-- was lost on its way, and the one before it keeps holding.
UPDATE client
SET secret_hash = $2,
    secret_used = false,
    previous_hash = CASE
        WHEN $3::interval = interval '0' THEN NULL
        WHEN previous_until > now() AND NOT secret_used THEN previous_hash
        ELSE secret_hash
    END,
    previous_until = CASE WHEN $3::interval > interval '0' THEN now() + $3 END
WHERE id = $1
RETURNING *

-- name: note_use
-- To the minute; $2 says whether it was the newest secret.
UPDATE client SET last_used_at = now(), secret_used = secret_used OR $2
WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute' OR $2 AND NOT secret_used)
