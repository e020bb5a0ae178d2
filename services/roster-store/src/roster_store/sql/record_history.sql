-- name: list_record_states
-- What a record was, newest first: the states that were kept, each with the step that made it, and the present one.
SELECT state.record, step.no AS step, step.kind, step.run_id, step.applied_at, step.detail
FROM (
    SELECT past.before AS record FROM roster_served.history AS past
    WHERE past.collection = $1 AND past.sourced_id = $2
    UNION ALL
    SELECT to_jsonb(held) FROM roster_served.{table} AS held WHERE held.sourced_id = $2
) AS state
LEFT JOIN roster_served.steps AS step ON step.no = (state.record ->> 'changed_by')::bigint
ORDER BY (state.record ->> 'version')::int DESC, (state.record ->> 'changed_by')::bigint DESC
LIMIT $3;
