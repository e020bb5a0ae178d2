-- name: write_launch
-- What has ended stays as it ended. One at a district's own upstream is the district's from the beginning.
INSERT INTO launch (
    id, support_id, purpose, steps, state, code, upstream_id, connection_id, organization_id, integration_id,
    sourced_id, product_id, ended_at
)
SELECT $1, $2, $3, $4, coalesce($5, 'begun'), $6, $7, coalesce($8, door.id), coalesce($9, door.organization_id), $10,
    $11, $12, CASE WHEN $5 IN ('completed', 'refused') THEN now() END
FROM (SELECT) AS one LEFT JOIN connection AS door ON door.id = coalesce($8::uuid, $7::uuid)
ON CONFLICT (id) DO UPDATE SET
    steps = CASE WHEN jsonb_array_length(launch.steps) < 100 THEN launch.steps || excluded.steps ELSE launch.steps END,
    state = CASE WHEN launch.ended_at IS NULL THEN coalesce($5, launch.state) ELSE launch.state END,
    code = CASE WHEN launch.ended_at IS NULL THEN coalesce($6, launch.code) ELSE launch.code END,
    upstream_id = coalesce(excluded.upstream_id, launch.upstream_id),
    connection_id = coalesce(excluded.connection_id, launch.connection_id),
    organization_id = coalesce(excluded.organization_id, launch.organization_id),
    integration_id = coalesce(excluded.integration_id, launch.integration_id),
    sourced_id = coalesce(excluded.sourced_id, launch.sourced_id),
    product_id = coalesce(excluded.product_id, launch.product_id),
    ended_at = coalesce(launch.ended_at, excluded.ended_at)
RETURNING ended_at IS NOT DISTINCT FROM now() AS ended

-- name: find_launch
SELECT launch.*, upstream.kind FROM launch LEFT JOIN upstream ON upstream.id = launch.upstream_id
WHERE support_id = $1 AND ($2::uuid IS NULL OR organization_id = $2)
ORDER BY launch.id DESC LIMIT 1

-- name: list_launches
-- From the newest to the oldest.
SELECT launch.*, upstream.kind FROM launch LEFT JOIN upstream ON upstream.id = launch.upstream_id
WHERE launch.id < $1
    AND ($2::uuid IS NULL OR launch.organization_id = $2)
    AND ($3::uuid IS NULL OR launch.connection_id = $3)
    AND ($4::uuid IS NULL OR launch.product_id = $4)
    AND ($5::text IS NULL OR launch.code = $5)
    AND ($6::text IS NULL OR launch.state = $6)
    AND ($7::uuid IS NULL OR launch.id >= $7)
ORDER BY launch.id DESC LIMIT $8

-- name: outcome_of_launch
CASE state WHEN 'refused' THEN coalesce(code, 'refused') WHEN 'completed' THEN 'completed' ELSE 'abandoned' END

-- name: find_uncounted_day
SELECT coalesce((SELECT max(day) + 1 FROM launch_day), current_date - 400)::timestamptz

-- name: count_launches
-- What became of a connection's launches, day by day: of days that are counted, and of those since. $4 narrows the
-- latter by their ids, which begin with the time. What is still under way is left out.
SELECT day, outcome, sum(launches)::bigint AS launches
FROM (
    SELECT day, outcome, launches FROM launch_count WHERE connection_id = $1 AND day > current_date - $2::int
    UNION ALL
    SELECT began_at::date, {outcome}, count(*) FROM launch
    WHERE connection_id = $1 AND id >= $4 AND began_at >= greatest($3::timestamptz, (current_date - $2::int + 1)::timestamptz)
        AND ended_at IS NOT NULL AND purpose <> 'test'
    GROUP BY 1, 2
) AS told
GROUP BY 1, 2 ORDER BY 1, 2

-- name: find_connection_of
SELECT id FROM connection WHERE id = $1 AND ($2::uuid IS NULL OR organization_id = $2)
