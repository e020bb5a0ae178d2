-- name: unpublished_runs
-- The runs whose turn it is: of each host as many as it has room for, hosts in turns, what was asked for first. Replicas
-- that look at the same time rank alike and pass over what another has locked, so the limits hold for all together.
WITH busy AS MATERIALIZED (
    SELECT integration.region, integration.host,
        count(*) FILTER (WHERE run.state IN ('queued', 'fetching')) AS running,
        count(*) FILTER (WHERE run.published_at > now() - interval '1 minute') AS started
    FROM run JOIN integration ON integration.id = run.integration
    WHERE run.kind NOT IN ('refresh', 'restore')
        AND (
            run.state IN ('queued', 'fetching') AND run.published_attempt = run.attempt
            OR run.published_at > now() - interval '1 minute'
        )
    GROUP BY integration.region, integration.host
), region_busy AS (
    SELECT region, sum(started) AS started FROM busy GROUP BY region
), waiting AS (
    SELECT run.id, run.number, integration.region, integration.host,
        CASE WHEN run.kind = 'refresh' THEN 0 WHEN run.slot IS NULL THEN 1 ELSE 2 END AS rank
    FROM run JOIN integration ON integration.id = run.integration
    WHERE run.state = 'queued'
        AND run.kind <> 'restore'
        AND run.published_attempt < run.attempt
        AND (run.not_before IS NULL OR run.not_before <= now())
), placed AS (
    SELECT *, row_number() OVER (PARTITION BY region, host, rank = 0 ORDER BY rank, number) AS place FROM waiting
), admitted AS (
    SELECT placed.*, row_number() OVER (PARTITION BY region ORDER BY rank, place, number) AS region_place
    FROM placed
    LEFT JOIN busy USING (region, host)
    CROSS JOIN LATERAL (SELECT CASE WHEN host = ANY ($6::text[]) THEN $4::int ELSE 1 END AS times) AS factor
    WHERE host IS NULL
        OR rank = 0
        OR place <= least($2::int * times - coalesce(running, 0), $3::int * times - coalesce(started, 0))
)
SELECT run.id, run.number, run.attempt, run.mode, run.headers, run.today, run.upload,
    CASE WHEN run.published_attempt = 0 THEN now() + (run.deadline_at - run.created_at) ELSE run.deadline_at END
        AS deadline_at,
    run.kind, run.class_sourced_id, run.teacher_sourced_id, coalesce(run.options, integration.options) AS options,
    integration.guard, integration.approve_first, integration.additions_only, integration.keep_received,
    integration.takes_over,
    integration.id AS integration, integration.organization, integration.provider, integration.region,
    integration.connection, integration.sealed_secret, integration.edition, integration.sis,
    CASE WHEN run.kind = 'refresh' OR integration.bookmark_gone IS DISTINCT FROM 'hold' THEN integration.bookmark END
        AS bookmark,
    upload.number AS upload_number, upload.received_at AS upload_received_at
FROM admitted
JOIN run ON run.id = admitted.id
JOIN integration ON integration.id = run.integration
LEFT JOIN upload ON upload.id = run.upload
LEFT JOIN region_busy ON region_busy.region = admitted.region
WHERE run.state = 'queued'
    AND run.published_attempt < run.attempt
    AND region_place <= $5::int - coalesce(region_busy.started, 0)
ORDER BY admitted.rank, admitted.place, run.number
LIMIT $1
FOR NO KEY UPDATE OF run SKIP LOCKED

-- name: mark_published
-- The time a run waited for its turn is not taken from the time it has.
UPDATE run
SET published_attempt = $2,
    edition = $3,
    published_at = now(),
    deadline_at = CASE WHEN published_attempt = 0 THEN now() + (deadline_at - created_at) ELSE deadline_at END
WHERE id = $1

-- name: note_waiting
INSERT INTO run_entry (run, attempt, step, sentence)
SELECT run.id, run.attempt, 'waits', format(
        'The run waits its turn, so that %s is not asked by too many at once.',
        coalesce(integration.host, 'region ' || integration.region)
    )
FROM run JOIN integration ON integration.id = run.integration
WHERE run.state = 'queued'
    AND run.kind <> 'restore'
    AND run.published_attempt < run.attempt
    AND greatest(run.created_at, run.not_before) <= now() - $1::interval
    AND NOT EXISTS (
        SELECT FROM run_entry
        WHERE run_entry.run = run.id AND run_entry.attempt = run.attempt AND run_entry.step = 'waits'
    )
ORDER BY run.number
LIMIT $2
ON CONFLICT (run, attempt, step) DO NOTHING

-- name: stops_due
SELECT id, stop_below, stop_reason, state IN ('queued', 'fetching', 'applying') AND cancel_requested AS again
FROM run
WHERE stop_due_at <= now()
ORDER BY stop_due_at
LIMIT $1
FOR NO KEY UPDATE SKIP LOCKED

-- name: mark_stop
-- A worker that did not hear it is told again, until it has answered.
UPDATE run SET stop_due_at = CASE WHEN $2 THEN now() + $3::interval END WHERE id = $1

-- name: unpublished_organizations
SELECT * FROM organization WHERE published_version < version
ORDER BY position
LIMIT $1
FOR NO KEY UPDATE SKIP LOCKED

-- name: unpublished_integrations
SELECT * FROM integration WHERE published_version < version
ORDER BY position
LIMIT $1
FOR NO KEY UPDATE SKIP LOCKED

-- name: unpublished_products
SELECT * FROM product WHERE published_version < version
ORDER BY position
LIMIT $1
FOR NO KEY UPDATE SKIP LOCKED

-- name: unpublished_licenses
-- Only once others were told whose they are.
SELECT license.*
FROM license
JOIN product ON product.id = license.product
JOIN organization ON organization.id = license.organization
WHERE license.published_version < license.version
    AND product.published_version > 0
    AND organization.published_version > 0
ORDER BY license.position
LIMIT $1
FOR NO KEY UPDATE OF license SKIP LOCKED

-- name: mark_organization
UPDATE organization SET published_version = $2 WHERE id = $1

-- name: mark_product
UPDATE product SET published_version = $2 WHERE id = $1

-- name: mark_license_told
UPDATE license SET published_version = $2 WHERE id = $1

-- name: mark_integration
UPDATE integration SET published_version = $2 WHERE id = $1

-- name: overdue_runs
-- Silent workers, passed deadlines and decisions the store never answered, by the database's clock.
SELECT * FROM run
WHERE state IN ('queued', 'fetching', 'applying')
    AND (deadline_at <= now() OR state = 'fetching' AND heartbeat_at <= now() - $1::interval)
    OR state = 'held' AND hold IS NOT NULL AND hold_expires_at IS NULL AND deadline_at <= now()
ORDER BY number
LIMIT $2
FOR NO KEY UPDATE SKIP LOCKED

-- name: fetching_runs
SELECT count(*) FROM run WHERE state = 'fetching'

-- name: now
-- The time itself: a transaction that waited for a lock began some time ago.
SELECT clock_timestamp()

-- name: oldest_heartbeat
SELECT coalesce(extract(epoch FROM now() - min(heartbeat_at)), 0)::float8 FROM run WHERE state = 'fetching'

-- name: unpublished_restores
-- Restores that were not sent, or that the store has not answered for a while; what waits for a decision was answered.
SELECT run.*, integration.organization, integration.guard, integration.approve_first, integration.additions_only,
    integration.takes_over
FROM run JOIN integration ON integration.id = run.integration
WHERE run.kind = 'restore'
    AND (
        run.state = 'queued' AND (run.not_before IS NULL OR run.not_before <= now())
        OR run.state = 'applying' AND run.hold IS NULL AND run.published_at <= now() - $1::interval
    )
ORDER BY run.number
LIMIT $2
FOR NO KEY UPDATE OF run SKIP LOCKED
