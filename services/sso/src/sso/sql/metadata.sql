-- name: follow_metadata
-- What it says was accepted just now.
INSERT INTO metadata_reading (upstream_id, due_at, read_at)
VALUES ($1, now() + interval '1 day' * (0.9 + 0.2 * random()), now())
ON CONFLICT (upstream_id) DO UPDATE
SET due_at = excluded.due_at, read_at = excluded.read_at, failing_since = NULL, problem = NULL

-- name: drop_metadata
WITH change AS (DELETE FROM metadata_change WHERE upstream_id = $1)
DELETE FROM metadata_reading WHERE upstream_id = $1

-- name: drop_metadata_change
DELETE FROM metadata_change WHERE upstream_id = $1

-- name: claim_metadata
-- What is due, put off for an hour: who reads it says when it is due next.
UPDATE metadata_reading SET due_at = now() + interval '1 hour'
FROM upstream
WHERE upstream.id = metadata_reading.upstream_id AND metadata_reading.upstream_id IN (
    SELECT upstream_id FROM metadata_reading WHERE due_at <= now() ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED
)
RETURNING upstream.id, upstream.kind, upstream.config, upstream.revision

-- name: note_metadata_read
-- Some jitter, so that not all are read at the same time of day.
UPDATE metadata_reading
SET due_at = now() + interval '1 day' * (0.9 + 0.2 * random()), read_at = now(), failing_since = NULL, problem = NULL
WHERE upstream_id = $1

-- name: note_metadata_unread
UPDATE metadata_reading
SET due_at = now() + interval '3 hours' * (0.9 + 0.2 * random()), failing_since = coalesce(failing_since, now()),
    problem = $2
WHERE upstream_id = $1

-- name: hold_metadata_change
-- A change that was discarded stays so while it is the same one.
INSERT INTO metadata_change (upstream_id, hash, found) VALUES ($1, $2, $3)
ON CONFLICT (upstream_id) DO UPDATE
SET hash = excluded.hash, found = excluded.found, found_at = now(), discarded_at = NULL
WHERE metadata_change.hash <> excluded.hash
RETURNING hash

-- name: find_metadata_change
SELECT * FROM metadata_change WHERE upstream_id = $1 AND discarded_at IS NULL

-- name: discard_metadata_change
UPDATE metadata_change SET discarded_at = now() WHERE upstream_id = $1

-- name: accept_trust
UPDATE upstream SET config = $2, certificate_ends = $3, revision = revision + 1, updated_at = now() WHERE id = $1

-- name: list_warned
-- What alerts are told of: changes that wait, metadata that could not be read for three days, and certificates that run
-- out (one that has run out beside another in force is no trouble).
SELECT connection.id, connection.organization_id, upstream.id AS upstream_id, upstream.certificate_ends,
    metadata_reading.failing_since, metadata_change.hash AS change_hash
FROM upstream
JOIN connection ON connection.upstream_id = upstream.id AND connection.deleted_at IS NULL AND connection.enabled
LEFT JOIN metadata_reading ON metadata_reading.upstream_id = upstream.id
    AND metadata_reading.failing_since < now() - interval '3 days'
LEFT JOIN metadata_change ON metadata_change.upstream_id = upstream.id AND metadata_change.discarded_at IS NULL
WHERE upstream.deleted_at IS NULL AND upstream.certificate_ends <> '{}' AND upstream.id > $1
    AND (metadata_reading.upstream_id IS NOT NULL OR metadata_change.upstream_id IS NOT NULL
         OR EXISTS (SELECT FROM unnest(upstream.certificate_ends) AS one WHERE one < now() + interval '60 days'))
ORDER BY upstream.id LIMIT $2

-- name: tell_warning
INSERT INTO warning_told (upstream_id, about) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING about

-- name: find_nearest_end
-- When the next certificate of an enabled connection runs out, or did where it was the last one.
SELECT min(CASE WHEN ends.next IS NULL THEN ends.last ELSE ends.next END)
FROM upstream
JOIN connection ON connection.upstream_id = upstream.id AND connection.deleted_at IS NULL AND connection.enabled
CROSS JOIN LATERAL (
    SELECT min(one) FILTER (WHERE one > now()) AS next, max(one) AS last
    FROM unnest(upstream.certificate_ends) AS one
) AS ends
WHERE upstream.deleted_at IS NULL AND upstream.certificate_ends <> '{}'

-- name: lock_upstream
SELECT * FROM upstream WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE
