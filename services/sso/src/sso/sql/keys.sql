-- name: lock_keys
SELECT pg_advisory_xact_lock(hashtextextended('sso.signing_key', 0))

-- name: list_keys
SELECT id, public_jwk, sealed_private, signs_from FROM signing_key ORDER BY signs_from, id

-- name: add_key
INSERT INTO signing_key (id, public_jwk, sealed_private, signs_from) VALUES ($1, $2, $3, $4)

-- name: drop_keys
DELETE FROM signing_key WHERE id = ANY($1::text[])
