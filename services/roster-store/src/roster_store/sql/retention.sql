-- name: lock_retention
SELECT pg_try_advisory_lock(hashtextextended('roster.retention', 0));

-- name: unlock_retention
SELECT pg_advisory_unlock(hashtextextended('roster.retention', 0));

-- name: forget_fetches
-- One batch of fetches that ended long ago; what is held is kept until it is decided. Restoring before a run that
-- changed nothing needs its fetch, so they are kept as long as the history is.
WITH old AS MATERIALIZED (
    SELECT no FROM staged_fetch
    WHERE state <> 'staging' AND finished_at < now() - make_interval(secs => $1)
      AND NOT EXISTS (SELECT FROM hold WHERE hold.fetch_no = staged_fetch.no AND hold.state = 'open')
    ORDER BY no LIMIT $2
    FOR UPDATE SKIP LOCKED
),
forgotten AS (
    DELETE FROM staged_fetch USING old WHERE staged_fetch.no = old.no RETURNING staged_fetch.no
)
SELECT count(*) FROM forgotten;

-- name: forget_decisions
WITH old AS MATERIALIZED (
    SELECT id FROM decision WHERE arrived_at < now() - make_interval(secs => $1) ORDER BY arrived_at LIMIT $2
),
forgotten AS (
    DELETE FROM decision USING old WHERE decision.id = old.id RETURNING decision.id
)
SELECT count(*) FROM forgotten;

-- name: find_forsaken
-- A fetch nothing was heard of for so long that its messages are not on the bus any more.
SELECT no FROM staged_fetch
WHERE state = 'staging' AND started_at < now() - make_interval(secs => $1)
ORDER BY no LIMIT 1
FOR UPDATE SKIP LOCKED;
