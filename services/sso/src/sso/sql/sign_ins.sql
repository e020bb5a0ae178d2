-- name: add_sign_in
INSERT INTO sign_in (id, integration_id, organization_id, product_id, sourced_id, at)
VALUES ($1, $2, $3, $4, $5, now())

-- name: list_sign_ins
SELECT * FROM sign_in ORDER BY id LIMIT $1

-- name: drop_sign_ins
DELETE FROM sign_in WHERE id = ANY ($1::uuid[])
