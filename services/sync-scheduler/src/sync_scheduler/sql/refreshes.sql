-- name: refreshes
-- How many refreshes an integration had in a while ($3) and how many seconds until the oldest of them no longer counts;
-- and how many seconds ago this class was refreshed last, or failed to be. A cancelled one never happened.
SELECT count(*) FILTER (WHERE created_at > now() - $3::interval) AS lately,
    extract(epoch FROM min(created_at) FILTER (WHERE created_at > now() - $3::interval) + $3::interval - now())::float8
        AS until_less,
    extract(epoch FROM now() - max(created_at) FILTER (WHERE class_sourced_id = $2))::float8 AS since_class
FROM run
WHERE integration = $1 AND kind = 'refresh' AND state <> 'cancelled'
    AND created_at > now() - greatest($3::interval, $4::interval)

-- name: active_refresh
SELECT id FROM run
WHERE integration = $1 AND kind = 'refresh' AND class_sourced_id = $2
    AND teacher_sourced_id IS NOT DISTINCT FROM $3
    AND state IN ('queued', 'fetching', 'applying')
