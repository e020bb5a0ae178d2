-- name: add_upstream
INSERT INTO upstream (
    id, kind, shared, name, product_id, config, enabled, sealed_secret, sealed_key, certificate_ends, secret_since
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, CASE WHEN $8::text IS NOT NULL THEN now() END)

-- name: add_connection
INSERT INTO connection (
    id, organization_id, upstream_id, name, tenant, integration_id, person_field, rostering, max_roster_age_hours, enabled
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)

-- name: show_connection
SELECT * FROM connection_view WHERE id = $1 AND ($2::uuid IS NULL OR organization_id = $2)

-- name: list_connections
SELECT * FROM connection_view
WHERE ($1::uuid IS NULL OR organization_id = $1)
    AND ($2 = '' OR strpos(lower(name), lower($2)) > 0 OR strpos(lower(organization_name), lower($2)) > 0)
    AND ($3::text IS NULL OR kind = $3)
    AND ($4::text IS NULL OR CASE $4 WHEN 'warned' THEN warned WHEN 'enabled' THEN enabled AND upstream_enabled
                             ELSE NOT (enabled AND upstream_enabled) END)
    AND ($5::uuid IS NULL OR upstream_id = $5 AND shared)
    AND ($6::text IS NULL OR tenant = $6)
    AND id > $7
ORDER BY id LIMIT $8

-- name: lock_connection
SELECT upstream_id FROM connection
WHERE id = $1 AND ($2::uuid IS NULL OR organization_id = $2) AND deleted_at IS NULL
FOR UPDATE

-- name: edit_connection
UPDATE connection
SET name = $2, tenant = $3, integration_id = $4, person_field = $5, rostering = $6, max_roster_age_hours = $7,
    enabled = $8, updated_at = now()
WHERE id = $1

-- name: edit_upstream
-- A sealed text that is not given stays.
UPDATE upstream
SET name = $2, product_id = $3, config = $4, enabled = $5, sealed_secret = coalesce($6, sealed_secret),
    sealed_key = coalesce($7, sealed_key), certificate_ends = $8, revision = revision + 1, updated_at = now(),
    secret_since = CASE WHEN $6::text IS NULL THEN secret_since ELSE now() END
WHERE id = $1

-- name: delete_connection
UPDATE connection SET deleted_at = now(), enabled = false, updated_at = now() WHERE id = $1

-- name: delete_upstream
-- Its secrets are nobody's any more.
UPDATE upstream
SET deleted_at = now(), enabled = false, sealed_secret = NULL, sealed_key = NULL, updated_at = now()
WHERE id = $1

-- name: knows_organization
SELECT EXISTS (SELECT FROM organization WHERE id = $1)

-- name: owns_integration
SELECT EXISTS (SELECT FROM integration WHERE id = $1 AND organization_id = $2)

-- name: show_application
SELECT upstream.*, (
    SELECT count(*) FROM connection WHERE connection.upstream_id = upstream.id AND connection.deleted_at IS NULL
) AS connections
FROM upstream
WHERE id = $1 AND shared AND deleted_at IS NULL

-- name: list_applications
SELECT upstream.*, (
    SELECT count(*) FROM connection WHERE connection.upstream_id = upstream.id AND connection.deleted_at IS NULL
) AS connections
FROM upstream
WHERE shared AND deleted_at IS NULL AND ($1 = '' OR strpos(lower(name), lower($1)) > 0)
    AND ($2::text IS NULL OR kind = $2) AND id > $3
ORDER BY id LIMIT $4

-- name: lock_application
SELECT * FROM upstream WHERE id = $1 AND shared AND deleted_at IS NULL FOR UPDATE

-- name: share_application
-- Held, so that it is not deleted meanwhile.
SELECT * FROM upstream WHERE id = $1 AND shared AND deleted_at IS NULL FOR SHARE

-- name: is_in_use
SELECT EXISTS (SELECT FROM connection WHERE upstream_id = $1 AND deleted_at IS NULL)

-- name: list_sealed_upstreams
-- Those that hold something sealed to another key than the current one.
SELECT id, sealed_secret, sealed_key FROM upstream
WHERE deleted_at IS NULL AND (sealed_secret NOT LIKE $1 OR sealed_key NOT LIKE $1)

-- name: reseal_upstream
-- Unless somebody entered something else meanwhile.
UPDATE upstream SET sealed_secret = $4, sealed_key = $5
WHERE id = $1 AND sealed_secret IS NOT DISTINCT FROM $2 AND sealed_key IS NOT DISTINCT FROM $3

-- name: count_licenses
SELECT count(*) FROM license
WHERE organization_id = $1 AND valid_from <= now() AND (valid_until IS NULL OR now() < valid_until)
    AND revoked_at IS NULL
