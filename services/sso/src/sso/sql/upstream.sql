-- name: find_tenant
-- What the portal calls the district of a connection.
SELECT tenant FROM connection WHERE id = $1 AND upstream_id = $2 AND deleted_at IS NULL
