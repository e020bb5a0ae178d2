-- name: keep_changed
-- What an upsert will change, as it is: the condition is the upsert's.
INSERT INTO history (integration_no, collection, sourced_id, until_apply, before)
SELECT held.integration_no, $3, held.sourced_id, $2, to_jsonb(held)
FROM {staging} AS staged
JOIN {table} AS held ON held.integration_no = $1 AND held.sourced_id = staged.sourced_id
WHERE held.origin = 'synced' AND (NOT held.active OR held.fingerprint <> staged.fingerprint);

-- name: keep_removed
-- What a removal will remove, as it is: the condition is the removal's. What the same apply changed first was kept then.
INSERT INTO history (integration_no, collection, sourced_id, until_apply, before)
SELECT held.integration_no, $3, held.sourced_id, $2, to_jsonb(held)
FROM {gone} AS gone
JOIN {table} AS held ON held.integration_no = $1 AND held.sourced_id = gone.sourced_id
WHERE gone.collection = $3 AND held.active AND (held.origin = 'synced' OR gone.reason = 'reference')
ON CONFLICT DO NOTHING;

-- name: keep_taken
-- What was taken over and is not changed by this apply in another way.
INSERT INTO history (integration_no, collection, sourced_id, until_apply, before)
SELECT held.integration_no, $3, held.sourced_id, $2, to_jsonb(held)
FROM {taken} AS taken
JOIN {table} AS held ON held.integration_no = $1 AND held.sourced_id = taken.sourced_id
WHERE taken.collection = $3 AND held.changed_by <> $2
  AND NOT EXISTS (SELECT FROM {gone} AS gone WHERE $4 AND gone.collection = $3 AND gone.sourced_id = held.sourced_id);

-- name: list_run_changes
-- What one apply ($2) of an integration ($1) changed in one collection ($3), record by record, in no order:
--   collection, sourced_id, change ('added', 'updated', 'removed'),
--   before  the whole row as it was (jsonb); null for a record the apply added for the first time,
--   after   the whole row as the apply left it (jsonb); a removed one is there with "active": false.
-- Each state of a record was written by one apply, its `changed_by`: the state is the row itself or in the history.
-- `before` is null, too, where the history is not kept any more (`history_horizon`).
SELECT $3::text AS collection, state.sourced_id, state.after ->> 'change' AS change, past.before, state.after
FROM (
    SELECT held.sourced_id, to_jsonb(held) AS after FROM {table} AS held
    WHERE held.changed_by = $2 AND held.integration_no = $1
    UNION ALL
    SELECT later.sourced_id, later.before FROM history AS later
    WHERE later.integration_no = $1 AND later.collection = $3 AND later.until_apply > $2
      AND (later.before ->> 'changed_by')::bigint = $2
) AS state
LEFT JOIN history AS past
       ON past.integration_no = $1 AND past.collection = $3 AND past.sourced_id = state.sourced_id AND past.until_apply = $2;

-- name: find_old_apply
SELECT no FROM apply WHERE applied_at < now() - make_interval(secs => $1) ORDER BY applied_at DESC, no DESC LIMIT 1;

-- name: forget_history
-- One batch of what applies up to $1 changed, oldest first; that it is gone is noted with it.
WITH old AS MATERIALIZED (
    SELECT ctid AS place, integration_no, until_apply FROM history WHERE until_apply <= $1 ORDER BY until_apply LIMIT $2
),
forgotten AS (
    DELETE FROM history USING old WHERE history.ctid = old.place RETURNING history.integration_no, history.until_apply
),
noted AS (
    INSERT INTO history_horizon AS held (integration_no, apply_no)
    SELECT integration_no, max(until_apply) FROM forgotten GROUP BY integration_no
    ON CONFLICT (integration_no) DO UPDATE SET apply_no = greatest(held.apply_no, excluded.apply_no)
)
SELECT count(*) FROM forgotten;
