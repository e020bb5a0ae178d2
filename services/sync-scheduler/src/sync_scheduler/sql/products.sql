-- name: add_product
INSERT INTO product (id, name, classes, unmatched) VALUES ($1, $2, $3, $4)
ON CONFLICT (id) DO NOTHING

-- name: product
-- One that was not deleted; with $2 only if that organization was ever given a license of it.
SELECT * FROM product
WHERE id = $1
    AND deleted_at IS NULL
    AND ($2::uuid IS NULL OR EXISTS (SELECT FROM license WHERE product = $1 AND organization = $2))

-- name: products
-- One page, oldest first; with $1 only those of that organization.
SELECT * FROM product
WHERE deleted_at IS NULL
    AND ($1::uuid IS NULL OR id IN (SELECT product FROM license WHERE organization = $1))
    AND position > $2
ORDER BY position
LIMIT $3

-- name: share_product
-- Whoever gives or changes one of its licenses: nobody deletes it meanwhile. Locked before organizations, everywhere.
SELECT id FROM product WHERE id = $1 AND deleted_at IS NULL
FOR SHARE

-- name: lock_product
SELECT * FROM product WHERE id = $1
FOR NO KEY UPDATE

-- name: edit_product
UPDATE product
SET name = $2, classes = $3, unmatched = $4, version = version + 1, updated_at = now()
WHERE id = $1

-- name: delete_product
UPDATE product SET deleted_at = now(), updated_at = now() WHERE id = $1

-- name: revoke_licenses
-- All licenses of a product that still count, or would.
UPDATE license SET revoked_at = now(), version = version + 1, updated_at = now()
WHERE product = $1 AND revoked_at IS NULL
RETURNING id, organization
