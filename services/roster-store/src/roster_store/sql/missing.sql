-- name: knows_missing
SELECT EXISTS (SELECT FROM missing WHERE integration_no = $1);

-- name: find_missed_twice
UPDATE roster_staging.{removals} AS staged
SET reason = 'missed twice'
FROM missing AS missed
WHERE missed.integration_no = $1 AND missed.collection = staged.collection AND missed.key = staged.key
  AND staged.reason = 'unproved' AND staged.collection = ANY ($2::text[])
  AND missed.run_number < $3 AND missed.since <= now() - make_interval(secs => $4);

-- name: forget_seen
-- Of a collection that was read whole, whatever is not among the keys that were not seen was seen, or is proved gone.
DELETE FROM missing AS missed
WHERE missed.integration_no = $1 AND missed.collection = ANY ($2::text[])
  AND NOT EXISTS (
      SELECT FROM {removals} AS staged
      WHERE staged.collection = missed.collection AND staged.key = missed.key
        AND staged.reason IN ('unproved', 'missed twice')
  );

-- name: forget_staged
DELETE FROM missing AS missed USING {staging} AS staged
WHERE missed.integration_no = $1 AND missed.collection = $2 AND missed.key = staged.key;

-- name: forget_gone
DELETE FROM missing AS missed
USING {gone} AS gone
JOIN {table} AS held ON held.integration_no = $1 AND held.sourced_id = gone.sourced_id AND NOT held.active
WHERE gone.collection = $2 AND missed.integration_no = $1 AND missed.collection = $2 AND missed.key = held.key;

-- name: keep_missing
INSERT INTO missing (integration_no, collection, key, run_number, since)
SELECT DISTINCT $1::int, staged.collection, staged.key, $3::bigint, now()
FROM {removals} AS staged
WHERE staged.reason = 'unproved' AND staged.collection = ANY ($2::text[])
ON CONFLICT DO NOTHING;
