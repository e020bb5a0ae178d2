-- name: keep_organization
INSERT INTO organization (id, name) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET name = excluded.name

-- name: keep_integration
INSERT INTO integration (id, organization_id, name, provider, deleted) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, provider = excluded.provider, deleted = excluded.deleted

-- name: keep_product
INSERT INTO product (id, name) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET name = excluded.name

-- name: keep_license
INSERT INTO license (id, product_id, organization_id, valid_from, valid_until, revoked_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (id) DO UPDATE SET
    valid_from = excluded.valid_from, valid_until = excluded.valid_until, revoked_at = excluded.revoked_at

-- name: find_product
SELECT * FROM product WHERE id = $1

-- name: list_licensed_products
-- What somebody of an organization may open from here.
SELECT product.id, product.name FROM product
JOIN relying_party ON relying_party.product_id = product.id AND launches
JOIN client ON client.id = relying_party.client_id AND client.disabled_at IS NULL
WHERE EXISTS (
    SELECT FROM license
    WHERE license.organization_id = $1 AND license.product_id = product.id
        AND valid_from <= now() AND (valid_until IS NULL OR now() < valid_until) AND revoked_at IS NULL
)
ORDER BY product.name, product.id LIMIT 200

-- name: search_doors
-- Ways in for people of organizations that license a product, found by the beginning of any word of their names.
SELECT connection.id, connection.upstream_id, connection.name, upstream.kind, organization.name AS organization_name
FROM connection
JOIN upstream ON upstream.id = connection.upstream_id AND upstream.enabled AND upstream.deleted_at IS NULL
JOIN organization ON organization.id = connection.organization_id
WHERE connection.enabled AND connection.deleted_at IS NULL
    AND ($1::uuid IS NULL OR EXISTS (
        SELECT FROM license
        WHERE license.organization_id = connection.organization_id AND license.product_id = $1
            AND valid_from <= now() AND (valid_until IS NULL OR now() < valid_until) AND revoked_at IS NULL
    ))
    AND ($2::uuid IS NULL OR connection.organization_id = $2)
    AND ($3 = '' OR strpos(lower(organization.name), lower($3)) > 0 OR strpos(lower(connection.name), lower($3)) > 0)
ORDER BY lower(organization.name), connection.name, connection.id
LIMIT $4
