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

-- name: find_erasures_to_clear
SELECT id, integration_no, apply_no FROM erasure
WHERE cleared_at IS NULL AND at < now() - make_interval(secs => $1) ORDER BY apply_no LIMIT $2;

-- name: clear_erased
-- The blank records of an erasure, and what goes with a record.
WITH gone AS (
    DELETE FROM {table} WHERE integration_no = $1 AND changed_by = $2 AND NOT active RETURNING sourced_id
),
parts AS (
    DELETE FROM belonging USING gone
    WHERE belonging.integration_no = $1 AND belonging.collection = $3 AND belonging.sourced_id = gone.sourced_id
),
wakings AS (
    DELETE FROM activation USING gone
    WHERE activation.integration_no = $1 AND activation.collection = $3 AND activation.sourced_id = gone.sourced_id
),
pasts AS (
    DELETE FROM former USING gone
    WHERE former.integration_no = $1 AND former.collection = $3 AND former.sourced_id = gone.sourced_id
)
SELECT count(*) FROM gone;

-- name: erasure_cleared
UPDATE erasure SET cleared_at = now() WHERE id = $1;

-- name: move_feed_horizon
INSERT INTO feed_horizon AS held (integration_no, apply_no) VALUES ($1, $2)
ON CONFLICT (integration_no) DO UPDATE SET apply_no = greatest(held.apply_no, excluded.apply_no);

-- name: forget_tombstones
-- One batch of a collection's records that were removed by applies up to $1; cursors from before miss that, and are told so.
WITH old AS MATERIALIZED (
    SELECT ctid AS place, integration_no, sourced_id, changed_by FROM {table}
    WHERE NOT active AND changed_by <= $1 ORDER BY changed_by LIMIT $2
    FOR UPDATE SKIP LOCKED
),
gone AS (
    DELETE FROM {table} AS held USING old WHERE held.ctid = old.place
    RETURNING held.integration_no, held.sourced_id, held.changed_by
),
parts AS (
    DELETE FROM belonging AS part USING gone
    WHERE part.integration_no = gone.integration_no AND part.collection = $3 AND part.sourced_id = gone.sourced_id
),
wakings AS (
    DELETE FROM activation AS woken USING gone
    WHERE woken.integration_no = gone.integration_no AND woken.collection = $3 AND woken.sourced_id = gone.sourced_id
),
pasts AS (
    DELETE FROM former USING gone
    WHERE former.integration_no = gone.integration_no AND former.collection = $3 AND former.sourced_id = gone.sourced_id
),
links AS (
    DELETE FROM account_link AS link USING gone
    WHERE $3 = 'users' AND link.integration_no = gone.integration_no AND link.sourced_id = gone.sourced_id
),
noted AS (
    INSERT INTO feed_horizon AS held (integration_no, apply_no)
    SELECT integration_no, max(changed_by) FROM gone GROUP BY integration_no
    ON CONFLICT (integration_no) DO UPDATE SET apply_no = greatest(held.apply_no, excluded.apply_no)
)
SELECT count(*) FROM gone;

-- name: forget_link_events
WITH old AS MATERIALIZED (
    SELECT no FROM (SELECT no, at FROM link_event ORDER BY no LIMIT $2) AS oldest
    WHERE at < now() - make_interval(secs => $1)
),
forgotten AS (
    DELETE FROM link_event USING old WHERE link_event.no = old.no RETURNING 1
)
SELECT count(*) FROM forgotten;

-- name: forget_accounts
-- Accounts that products deleted long ago, with what is left of their links.
WITH old AS MATERIALIZED (
    SELECT no FROM account WHERE deleted_at < now() - make_interval(secs => $1) LIMIT $2 FOR UPDATE SKIP LOCKED
),
links AS (DELETE FROM account_link USING old WHERE account_link.account_no = old.no),
bars AS (DELETE FROM barred_link USING old WHERE barred_link.account_no = old.no),
forgotten AS (
    DELETE FROM account USING old WHERE account.no = old.no RETURNING 1
)
SELECT count(*) FROM forgotten;
