-- name: watch_again
-- A run changed its state: its integration is judged at the next round.
INSERT INTO watch (integration) SELECT integration FROM run WHERE id = $1
ON CONFLICT (integration) DO UPDATE SET look_at = now()

-- name: watch_all
-- Integrations without a run so far can be stale, too.
INSERT INTO watch (integration)
SELECT id FROM integration
WHERE state = 'active' AND NOT EXISTS (SELECT FROM watch WHERE watch.integration = integration.id)
ON CONFLICT DO NOTHING

-- name: unwatch
DELETE FROM watch WHERE integration = $1

-- name: watches_due
SELECT watch.*, integration.state AS integration_state, integration.name, integration.organization,
    organization.name AS organization_name, integration.id, integration.region, integration.time_zone,
    integration.schedule, integration.schedule_since, integration.last_success_at, integration.created_at,
    integration.updated_at, integration.paused_at, integration.paused_until, integration.slots_owed_code
FROM watch
JOIN integration ON integration.id = watch.integration
JOIN organization ON organization.id = integration.organization
WHERE watch.look_at <= now()
ORDER BY watch.look_at
LIMIT $1
FOR NO KEY UPDATE OF watch SKIP LOCKED

-- name: save_watch
UPDATE watch SET state = $2, since = $3, look_at = $4, reminded = $5 WHERE integration = $1

-- name: runs_that_count
-- Newest first. A plan that was thrown away counts from when its run began: what came after it says more.
SELECT id, state, code, detail, hold, finished_at FROM (
    SELECT * FROM run
    WHERE integration = $1 AND kind IN ('sync', 'restore') AND finished_at IS NOT NULL
    ORDER BY number DESC
    LIMIT 20
) AS newest
ORDER BY CASE
    WHEN code IN ('HOLD_DISCARDED', 'HOLD_EXPIRED', 'HOLD_REPLACED', 'HOLD_LOST') THEN coalesce(started_at, created_at)
    ELSE finished_at
END DESC

-- name: decision_under_way
-- An approval makes a held run active again until the store has carried it out.
SELECT EXISTS (SELECT FROM run WHERE integration = $1 AND state = 'applying' AND hold IS NOT NULL)

-- name: add_alert
INSERT INTO alert (id, organization, integration, run, kind, code, at, payload, mail)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (id) DO NOTHING

-- name: add_deliveries
-- Targets of all organizations, of this one, of this integration; with $4 only that one.
INSERT INTO alert_delivery (alert, target)
SELECT $1, id FROM alert_target
WHERE deleted_at IS NULL
    AND CASE
        WHEN $4::uuid IS NOT NULL THEN id = $4
        ELSE (organization IS NULL OR organization = $2) AND (integration IS NULL OR integration = $3)
    END
ON CONFLICT DO NOTHING

-- name: add_one_delivery
INSERT INTO alert_delivery (alert, address) VALUES ($1, $2)

-- name: forget_alerts
DELETE FROM alert WHERE id IN (SELECT id FROM alert WHERE at < now() - $1::interval LIMIT $2)

-- name: deliveries_due
-- A target's alerts go out in order, one at a time; what was not tried yet goes before what failed. With $3 mails,
-- else webhooks.
UPDATE alert_delivery
SET due_at = now() + $2::interval, tries = alert_delivery.tries + 1
FROM (
    SELECT one.position
    FROM alert_delivery AS one LEFT JOIN alert_target ON alert_target.id = one.target
    WHERE one.state = 'pending'
        AND one.due_at <= now()
        AND (alert_target.kind IS NOT DISTINCT FROM 'webhook') <> $3
        AND (one.target IS NULL OR NOT EXISTS (
            SELECT FROM alert_delivery AS earlier
            WHERE earlier.target = one.target AND earlier.state = 'pending' AND earlier.position < one.position
        ))
    ORDER BY one.tries, one.due_at
    LIMIT $1
    FOR NO KEY UPDATE OF one SKIP LOCKED
) AS due, alert
WHERE alert_delivery.position = due.position AND alert.id = alert_delivery.alert
RETURNING alert_delivery.position, alert_delivery.tries, alert_delivery.alert, alert_delivery.target,
    alert_delivery.address, alert.at, alert.payload, alert.mail

-- name: target_of_delivery
SELECT * FROM alert_target WHERE id = $1

-- name: end_delivery
-- Only for the attempt it is about.
UPDATE alert_delivery SET state = $3, problem = $4, ended_at = now(), due_at = NULL,
    address = NULL
WHERE position = $1 AND tries = $2 AND state = 'pending'

-- name: put_delivery_off
UPDATE alert_delivery SET due_at = now() + $4::interval, problem = $3
WHERE position = $1 AND tries = $2 AND state = 'pending'

-- name: alerts
-- One page, newest first; with $1 only those of that organization, with $2 of that integration.
SELECT * FROM alert
WHERE ($1::uuid IS NULL OR organization = $1) AND ($2::uuid IS NULL OR integration = $2) AND position < $3
ORDER BY position DESC
LIMIT $4

-- name: alert
SELECT * FROM alert WHERE id = $1 AND ($2::uuid IS NULL OR organization = $2)

-- name: deliveries_of
-- With $2 only to targets of that organization: who else is told is nobody's business.
SELECT alert_delivery.*, alert_target.kind AS target_kind
FROM alert_delivery LEFT JOIN alert_target ON alert_target.id = alert_delivery.target
WHERE alert_delivery.alert = ANY ($1::uuid[])
    AND ($2::uuid IS NULL OR alert_delivery.target IS NULL OR alert_target.organization = $2)
ORDER BY alert_delivery.position

-- name: add_target
INSERT INTO alert_target (id, organization, integration, kind, url, address, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (id) DO NOTHING

-- name: target
SELECT * FROM alert_target
WHERE id = $1 AND deleted_at IS NULL AND ($2::uuid IS NULL OR organization = $2)

-- name: targets
-- One page, oldest first; with $1 only those of that organization.
SELECT * FROM alert_target
WHERE deleted_at IS NULL AND ($1::uuid IS NULL OR organization = $1) AND position > $2
ORDER BY position
LIMIT $3

-- name: rotate_target
UPDATE alert_target SET generation = generation + 1, rotated_at = now()
WHERE id = $1 AND deleted_at IS NULL
RETURNING *

-- name: delete_target
UPDATE alert_target SET deleted_at = now(), url = NULL, address = NULL
WHERE id = $1 AND deleted_at IS NULL AND ($2::uuid IS NULL OR organization = $2)
RETURNING *

-- name: drop_deliveries
UPDATE alert_delivery SET state = 'dropped', ended_at = now(), due_at = NULL
WHERE target = $1 AND state = 'pending'

-- name: mute
INSERT INTO watch (integration, muted, muted_until, muted_by) VALUES ($1, $2, $3, $4)
ON CONFLICT (integration) DO UPDATE SET muted = $2, muted_until = $3, muted_by = $4, look_at = now()
RETURNING *

-- name: watch
-- An integration nobody has looked at yet fares well, as far as anybody was told.
SELECT integration.id AS integration, coalesce(watch.state, 'ok') AS state,
    coalesce(watch.since, integration.created_at) AS since, coalesce(watch.muted, false) AS muted, watch.muted_until
FROM integration LEFT JOIN watch ON watch.integration = integration.id
WHERE integration.id = $1 AND ($2::uuid IS NULL OR integration.organization = $2)

-- name: known_organization
SELECT id FROM organization WHERE id = $1::text::uuid
