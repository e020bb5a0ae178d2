-- name: licenses_of
SELECT * FROM license WHERE organization = $1

-- name: lock_organization
SELECT id FROM organization WHERE id = $1
FOR NO KEY UPDATE

-- name: add_license
-- $6 says whether it has begun, so that nobody waits for its beginning.
INSERT INTO license (id, product, organization, valid_from, valid_until, woken_at, schools, grants)
VALUES ($1, $2, $3, $4, $5, CASE WHEN $6 THEN now() END, $7, $8)
ON CONFLICT (id) DO NOTHING

-- name: license
-- With $2 only if it is that organization's.
SELECT *, clock_timestamp() AS now FROM license WHERE id = $1 AND ($2::uuid IS NULL OR organization = $2)

-- name: parties_of_license
SELECT product, organization FROM license WHERE id = $1

-- name: licenses
-- One page, oldest first; with $1 only those of that organization, with $2 of that product.
SELECT *, clock_timestamp() AS now FROM license
WHERE ($1::uuid IS NULL OR organization = $1) AND ($2::uuid IS NULL OR product = $2) AND position > $3
ORDER BY position
LIMIT $4

-- name: edit_license
UPDATE license
SET valid_until = $2, revoked_at = $3, schools = $4, grants = $5, version = version + 1, updated_at = now()
WHERE id = $1

-- name: licenses_to_begin
SELECT * FROM license
WHERE woken_at IS NULL AND valid_from <= now()
ORDER BY valid_from
LIMIT $1
FOR NO KEY UPDATE SKIP LOCKED

-- name: mark_license
UPDATE license SET woken_at = now() WHERE id = $1
