-- name: find_settled_step
-- The newest step of an integration below which none is still on its way: whoever has read up to it has missed nothing.
SELECT coalesce(max(no), 0) FROM apply
WHERE integration_no = $1 AND xid < pg_snapshot_xmin(pg_current_snapshot());

-- name: find_first_cursor
-- The first place in the feed from which changes alone tell everything: after it nothing was forgotten, and the
-- product's view has had one beginning. And the newest step there is.
SELECT greatest(
           coalesce((SELECT apply_no FROM feed_horizon WHERE integration_no = $1), 0),
           coalesce((SELECT apply_no FROM beginning WHERE integration_no = $1 AND product_id = $2), 0)) AS first,
       coalesce((SELECT max(no) FROM apply), 0) AS last;

-- name: count_exported
-- Whether there are rows, and whether there are many: counting stops there.
SELECT count(*) FROM (SELECT FROM roster_served.{table} WHERE integration_no = $1 {narrowing} LIMIT {most}) AS found;

-- name: list_exported_keys
-- Keys of metadata, the most frequent first.
SELECT key FROM roster_served.{table} CROSS JOIN LATERAL jsonb_object_keys(metadata) AS key
WHERE integration_no = $1 {narrowing} GROUP BY key ORDER BY count(*) DESC, key LIMIT {most};

-- name: list_exported
SELECT sourced_id, active, changed_at, {columns} FROM roster_served.{table} WHERE integration_no = $1 {narrowing};

-- name: list_exported_schools
SELECT sourced_id FROM roster_served.orgs WHERE integration_no = $1 AND active AND type = 'school' LIMIT 100000;
