-- name: find_undone
-- The first apply to be undone: the run's first, or, of a run that found nothing to change, the first one after it.
SELECT min(apply.no)
FROM apply
WHERE apply.integration_no = $1
  AND apply.no >= coalesce(
      (SELECT min(own.no) FROM apply AS own WHERE own.integration_no = $1 AND own.run_id = $2),
      (SELECT min(later.no)
       FROM staged_fetch AS taken_in
       JOIN apply AS later ON later.integration_no = $1 AND later.applied_at > taken_in.finished_at
       WHERE taken_in.integration_no = $1 AND taken_in.run_id = $2 AND taken_in.state = 'applied')
  );

-- name: was_applied
SELECT EXISTS (SELECT FROM staged_fetch WHERE integration_no = $1 AND run_id = $2 AND state = 'applied');

-- name: find_horizon
SELECT apply_no FROM history_horizon WHERE integration_no = $1;

-- name: stage_restored
-- What was active before apply $2 and is not so any more, or not like that, as it was.
INSERT INTO roster_staging.{staging} ({columns})
SELECT {columns}
FROM (
    SELECT (jsonb_populate_record(NULL::{table}_fields, past.before)).*, held.active, held.fingerprint AS present
    FROM (
        SELECT DISTINCT ON (sourced_id) sourced_id, before FROM history
        WHERE integration_no = $1 AND collection = $3 AND until_apply >= $2
        ORDER BY sourced_id, until_apply
    ) AS past
    JOIN {table} AS held ON held.integration_no = $1 AND held.sourced_id = past.sourced_id
    WHERE held.changed_by >= $2 AND held.origin = 'synced'
      AND (past.before ->> 'changed_by')::bigint < $2 AND (past.before ->> 'active')::boolean
      AND past.before ->> 'origin' = 'synced'
) AS restored
WHERE NOT active OR present <> fingerprint;

-- name: stage_undone
-- What is active now and was written first, or brought back, by apply $2 or a later one.
INSERT INTO roster_staging.{staging} (collection, key, reason)
SELECT $3, held.key, 'restored'
FROM {table} AS held
LEFT JOIN (
    SELECT DISTINCT ON (sourced_id) sourced_id, before FROM history
    WHERE integration_no = $1 AND collection = $3 AND until_apply >= $2
    ORDER BY sourced_id, until_apply
) AS past ON past.sourced_id = held.sourced_id
WHERE held.integration_no = $1 AND held.changed_by >= $2 AND held.origin = 'synced' AND held.active
  AND ((past.before ->> 'changed_by')::bigint < $2 AND (past.before ->> 'active')::boolean) IS NOT TRUE;

-- name: move_basis
UPDATE staged_fetch SET basis = $2 WHERE no = $1;
