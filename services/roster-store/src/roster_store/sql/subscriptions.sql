-- name: lock_subscriber
SELECT pg_advisory_xact_lock(hashtextextended('roster.subscriptions.' || $1, 0));

-- name: count_subscriptions
SELECT count(*) FROM subscription WHERE product_id IS NOT DISTINCT FROM $1 AND ($1 IS NOT NULL OR organization_id = $2);

-- name: knows_product
SELECT EXISTS (SELECT FROM product WHERE id = $1);

-- name: knows_organization
-- With $2 only one that this product is, or was, licensed for: to others of them it does not exist.
SELECT
    (EXISTS (SELECT FROM organization WHERE id = $1) OR EXISTS (SELECT FROM integration WHERE organization_id = $1))
    AND ($2::uuid IS NULL OR EXISTS (SELECT FROM access WHERE product_id = $2 AND organization_id = $1));

-- name: add_subscription
INSERT INTO subscription (
    id, product_id, organization_id, integration_id, kind, url, types, schools, demographics, batch, created_by,
    sealed_secret, cursor, position, more
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15);

-- name: list_subscriptions
-- With how far behind they are: the steps somebody like them could be told of, a thousand at most.
SELECT subscription.*, lag.steps, lag.seconds, lag.at AS now
FROM subscription CROSS JOIN LATERAL (
    SELECT count(*) AS steps, coalesce(extract(epoch FROM now() - min(applied_at)), 0)::float8 AS seconds, now() AS at
    FROM (
        SELECT apply.applied_at
        FROM apply JOIN integration ON integration.no = apply.integration_no
        WHERE (apply.no > subscription.position OR (subscription.more AND apply.no = subscription.position))
          AND (apply.product_id IS NULL OR apply.product_id = subscription.product_id)
          AND (subscription.organization_id IS NULL OR integration.organization_id = subscription.organization_id)
          AND (subscription.integration_id IS NULL OR integration.id = subscription.integration_id)
          AND (subscription.product_id IS NULL OR EXISTS (
              SELECT FROM beginning
              LEFT JOIN access ON access.product_id = beginning.product_id AND access.organization_id = integration.organization_id
              WHERE beginning.product_id = subscription.product_id AND beginning.integration_no = apply.integration_no
                AND apply.no >= beginning.apply_no AND (access.live OR apply.product_id IS NOT NULL)))
        ORDER BY apply.no LIMIT 1000
    ) AS missed
) AS lag
WHERE ($1::uuid IS NULL OR product_id = $1) AND ($2::uuid IS NULL OR organization_id = $2)
  AND (NOT $3 OR product_id IS NULL) AND ($4::uuid IS NULL OR subscription.id = $4) AND subscription.id > $5
ORDER BY subscription.id LIMIT $6;

-- name: lock_subscription
SELECT *, now() AS now FROM subscription
WHERE ($1::uuid IS NULL OR product_id = $1) AND ($2::uuid IS NULL OR organization_id = $2)
  AND (NOT $3 OR product_id IS NULL) AND id = $4
FOR UPDATE;

-- name: change_subscription
-- Whoever is at work on it now loses it, so that nothing of what it did under the old terms counts.
UPDATE subscription
SET url = $2, types = $3, schools = $4, batch = $5, lease = NULL, leased_until = '-infinity', sending_to = NULL, more = true
WHERE id = $1;

-- name: rotate_subscription
UPDATE subscription SET sealed_earlier = sealed_secret, sealed_secret = $2, rotated_at = now() WHERE id = $1;

-- name: enable_subscription
UPDATE subscription
SET state = 'active', disabled_at = NULL, disabled_code = NULL, failures = 0, failing_since = NULL, due_at = '-infinity',
    more = true
WHERE id = $1;

-- name: pause_subscription
UPDATE subscription
SET state = 'disabled', disabled_at = now(), disabled_code = NULL, lease = NULL, leased_until = '-infinity'
WHERE id = $1 AND state = 'active';

-- name: rewind_subscription
UPDATE subscription
SET cursor = $2, position = $3, more = true, sending_to = NULL, round = round + 1, lease = NULL,
    leased_until = '-infinity', due_at = '-infinity'
WHERE id = $1;

-- name: delete_subscription
DELETE FROM subscription WHERE id = $1;

-- name: announce_subscription
SELECT pg_notify('roster_subscription', '');

-- name: find_feed_end
-- The newest step that no earlier one can follow any more.
SELECT coalesce(max(no), 0) FROM apply WHERE xid < pg_snapshot_xmin(pg_current_snapshot());

-- name: find_step_before
-- The last step before all that were taken at a time or later.
SELECT coalesce(
    (SELECT min(no) FROM apply WHERE applied_at >= $1) - 1,
    (SELECT max(no) FROM apply WHERE xid < pg_snapshot_xmin(pg_current_snapshot())),
    0);

-- name: ask_test
INSERT INTO subscription_test (id, subscription_id) VALUES ($1, $2)
ON CONFLICT (subscription_id) WHERE ended_at IS NULL DO UPDATE SET asked_at = now()
RETURNING id;

-- name: forget_tests
DELETE FROM subscription_test WHERE asked_at < now() - interval '1 hour';

-- name: read_test
SELECT * FROM subscription_test WHERE id = $1 AND ended_at IS NOT NULL;

-- name: claim_tests
UPDATE subscription_test SET taken_at = now()
FROM subscription
WHERE subscription.id = subscription_test.subscription_id AND subscription_test.id IN (
    SELECT id FROM subscription_test
    WHERE ended_at IS NULL AND (taken_at IS NULL OR taken_at < now() - $2::interval)
    ORDER BY asked_at LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING subscription_test.id AS test_id, subscription.*, now() AS now;

-- name: end_test
UPDATE subscription_test SET ended_at = now(), status = $2, seconds = $3, problem = $4 WHERE id = $1;

-- name: pass_subscriptions
-- Those that no step up to this one can concern have come this far without anybody reading for them.
UPDATE subscription SET cursor = $1, position = $2
WHERE id IN (
    SELECT one.id FROM subscription AS one
    WHERE one.state = 'active' AND NOT one.more AND one.sending_to IS NULL AND one.position < $2
      AND one.leased_until <= now()
      AND NOT EXISTS (
        SELECT FROM apply JOIN integration ON integration.no = apply.integration_no
        WHERE apply.no > one.position AND apply.no <= $2
          AND (apply.product_id IS NULL OR apply.product_id = one.product_id)
          AND (one.organization_id IS NULL OR integration.organization_id = one.organization_id)
          AND (one.integration_id IS NULL OR integration.id = one.integration_id)
          AND (one.product_id IS NULL OR EXISTS (
              SELECT FROM beginning
              LEFT JOIN access ON access.product_id = beginning.product_id AND access.organization_id = integration.organization_id
              WHERE beginning.product_id = one.product_id AND beginning.integration_no = apply.integration_no
                AND apply.no >= beginning.apply_no AND (access.live OR apply.product_id IS NOT NULL))))
    FOR UPDATE SKIP LOCKED);

-- name: claim_subscriptions
UPDATE subscription SET lease = gen_random_uuid(), leased_until = now() + $3::interval
WHERE id IN (
    SELECT one.id FROM subscription AS one
    WHERE one.state = 'active' AND one.leased_until <= now() AND one.due_at <= now()
      AND (one.failures > 0 OR one.sluggish) = $2
      AND (one.more OR one.sending_to IS NOT NULL OR EXISTS (
          SELECT FROM apply WHERE apply.no > one.position AND apply.xid < pg_snapshot_xmin(pg_current_snapshot())))
    ORDER BY one.last_try_at NULLS FIRST
    LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING *;

-- name: read_lease
-- Once more before something is sent: the terms may have changed, and somebody else may be at it.
UPDATE subscription SET leased_until = now() + $3::interval WHERE id = $1 AND lease = $2 AND state = 'active'
RETURNING now();

-- name: advance_subscription
UPDATE subscription
SET cursor = $3, position = $4, more = $5, sending_to = NULL, leased_until = now() + $6::interval
WHERE id = $1 AND lease = $2
RETURNING *;

-- name: advance_delivered
UPDATE subscription
SET cursor = $3, position = $4, more = $5, sending_to = NULL, leased_until = now() + $6::interval,
    delivered = delivered + $7, failures = 0, failing_since = NULL, due_at = '-infinity', sluggish = $8,
    last_try_at = now(), last_success_at = now(), last_status = $9, last_problem = NULL
WHERE id = $1 AND lease = $2
RETURNING *;

-- name: put_subscription_off
UPDATE subscription
SET failures = failures + 1, failing_since = coalesce(failing_since, now()), due_at = now() + $3::interval,
    sending_to = $4, lease = NULL, leased_until = '-infinity', last_try_at = now(), last_status = $5, last_problem = $6,
    sluggish = true
WHERE id = $1 AND lease = $2;

-- name: disable_subscription
UPDATE subscription
SET state = 'disabled', disabled_at = now(), disabled_code = $3, failures = failures + 1,
    failing_since = coalesce(failing_since, now()), sending_to = $4, lease = NULL, leased_until = '-infinity',
    last_try_at = now(), last_status = $5, last_problem = $6
WHERE id = $1 AND lease = $2 AND state = 'active';

-- name: release_subscription
UPDATE subscription
SET lease = NULL, leased_until = '-infinity', due_at = CASE WHEN $3::interval > '0'::interval THEN now() + $3 ELSE due_at END
WHERE id = $1 AND lease = $2;

-- name: measure_subscriptions
SELECT count(*) FILTER (WHERE state = 'disabled') AS disabled,
       coalesce(max(extract(epoch FROM now() - (
           SELECT apply.applied_at FROM apply WHERE apply.no > subscription.position ORDER BY apply.no LIMIT 1
       ))) FILTER (WHERE state = 'active'), 0)::float8 AS lag
FROM subscription;

-- name: knows_integration
-- Of the organization, or of any the product is licensed for.
SELECT EXISTS (
    SELECT FROM integration
    WHERE id = $1 AND ($2::uuid IS NULL OR organization_id = $2)
      AND ($3::uuid IS NULL OR EXISTS (
          SELECT FROM license WHERE license.product_id = $3 AND license.organization_id = integration.organization_id)));

-- name: list_sealed
SELECT id, sealed_secret, sealed_earlier FROM subscription
WHERE sealed_secret NOT LIKE $1 OR sealed_earlier NOT LIKE $1;

-- name: reseal_subscription
UPDATE subscription SET sealed_secret = $3, sealed_earlier = $4 WHERE id = $1 AND sealed_secret = $2;

-- name: list_unalerted
SELECT id, product_id, organization_id, disabled_at, disabled_code FROM subscription
WHERE state = 'disabled' AND disabled_code IS NOT NULL AND alerted_at IS DISTINCT FROM disabled_at
ORDER BY disabled_at LIMIT 100
FOR UPDATE SKIP LOCKED;

-- name: note_alerted
UPDATE subscription SET alerted_at = disabled_at WHERE id = ANY ($1::uuid[]);
