-- name: last_apply
SELECT last_apply FROM integration WHERE id = $1;

-- name: fingerprints
SELECT key, fingerprint FROM {table}
WHERE integration_no = (SELECT no FROM integration WHERE id = $1) AND active AND origin = 'synced'

-- name: ids
SELECT key, sourced_id FROM {table}
WHERE integration_no = (SELECT no FROM integration WHERE id = $1) AND key = ANY ($2::uuid[]) AND active AND origin = 'synced';
