-- name: last_apply
SELECT last_apply FROM integration WHERE id = $1;

-- name: fingerprints
SELECT key, fingerprint FROM {table}
WHERE integration_no = (SELECT no FROM integration WHERE id = $1) AND active AND origin = 'synced'

-- name: ids
SELECT key, sourced_id FROM {table}
WHERE integration_no = (SELECT no FROM integration WHERE id = $1) AND key = ANY ($2::uuid[]) AND active AND origin = 'synced';

-- name: held_class
SELECT sourced_id, fingerprint FROM classes
WHERE integration_no = (SELECT no FROM integration WHERE id = $1) AND sourced_id = $2 AND active AND origin = 'synced';

-- name: held_users
SELECT sourced_id, fingerprint FROM users
WHERE integration_no = (SELECT no FROM integration WHERE id = $1) AND sourced_id = ANY ($2::text[]) AND active;

-- name: held_enrollments
SELECT sourced_id, fingerprint FROM enrollments
WHERE integration_no = (SELECT no FROM integration WHERE id = $1) AND class_sourced_id = $2 AND active AND origin = 'synced';
