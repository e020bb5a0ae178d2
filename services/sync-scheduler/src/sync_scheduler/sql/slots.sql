-- name: due_slots
-- Integrations whose moment came by $1, the longest waiting first, and the last slot each has used.
SELECT integration.*, (SELECT max(run.slot) FROM run WHERE run.integration = integration.id) AS last_slot
FROM integration
WHERE state = 'active' AND next_slot_at <= $1
ORDER BY next_slot_at
LIMIT $2
FOR NO KEY UPDATE OF integration SKIP LOCKED

-- name: set_next_slot
UPDATE integration
SET next_slot_at = $2, next_slot_why = $3, slots_owed = $4, slots_owed_code = $5
WHERE id = $1

-- name: add_slot
INSERT INTO slot (integration, slot, outcome, code, slots, run, at) VALUES ($1, $2, $3, $4, $5, $6, $7)

-- name: extend_slot
-- Adds to the line that says why an integration does not start, if its last line is that.
UPDATE slot SET slot = $3, slots = slots + $4, at = $5
WHERE id = (SELECT max(id) FROM slot WHERE integration = $1) AND outcome = 'left_out' AND code = $2
RETURNING id

-- name: slots
-- One page of what became of an integration's slots, newest first.
SELECT slot.*, integration.time_zone
FROM slot JOIN integration ON integration.id = slot.integration
WHERE slot.integration = $1 AND slot.id < $2
ORDER BY slot.id DESC
LIMIT $3

-- name: forget_slots
DELETE FROM slot
WHERE id IN (
    SELECT id FROM slot
    WHERE at <= now() - $1::interval
    LIMIT $2
    FOR UPDATE SKIP LOCKED
)

-- name: wake_slots
-- Integrations that missed slots for that reason ($2) are due now.
UPDATE integration SET next_slot_at = least(next_slot_at, now())
WHERE organization = $1 AND state = 'active' AND next_slot_at IS NOT NULL AND slots_owed > 0 AND slots_owed_code = $2

-- name: wake_uploads
UPDATE integration SET uploads_after = NULL WHERE organization = $1 AND uploads_after IS NOT NULL

-- name: kind_of_run
SELECT kind FROM run WHERE id = $1

-- name: set_pause
UPDATE integration
SET paused_at = now(), paused_until = $2, pause_reason = $3, paused_by = $4, updated_at = now()
WHERE id = $1
RETURNING *

-- name: end_pause
-- What was left out meanwhile ($2) is made up for at once.
UPDATE integration
SET paused_at = NULL,
    paused_until = NULL,
    pause_reason = NULL,
    paused_by = NULL,
    next_slot_at = CASE WHEN slots_owed_code = $2 THEN least(next_slot_at, now()) ELSE next_slot_at END,
    updated_at = now()
WHERE id = $1
RETURNING *
