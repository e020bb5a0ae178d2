-- name: add_decision
-- Whoever comes second, or does the same again, changes nothing.
INSERT INTO decision (id, run, attempt, plan, action, by) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT DO NOTHING
RETURNING id

-- name: decision_of_plan
-- What was decided about a plan, unless it could not be carried out.
SELECT * FROM decision WHERE run = $1 AND plan = $2 AND code IS NULL

-- name: answer_decisions
-- One of a run's decisions ($2), those about a plan ($3), or all of them; $4 says why it was refused.
UPDATE decision
SET answered_at = now(), publish_at = NULL, code = $4
WHERE run = $1 AND answered_at IS NULL AND ($2::uuid IS NULL OR id = $2) AND ($3::text IS NULL OR plan = $3)

-- name: unpublished_decisions
SELECT decision.*, run.integration
FROM decision JOIN run ON run.id = decision.run
WHERE decision.publish_at <= now()
ORDER BY decision.at
LIMIT $1
FOR NO KEY UPDATE OF decision SKIP LOCKED

-- name: mark_decision
-- Until it is answered it is sent again, at ever longer intervals of at most an hour, and not for ever.
UPDATE decision
SET published = published + 1,
    publish_at = CASE
        WHEN published < $2 THEN now() + least($3::interval * power(2, published), interval '1 hour')
    END
WHERE id = $1

-- name: expired_holds
SELECT * FROM run
WHERE hold_expires_at <= now()
ORDER BY hold_expires_at
LIMIT $1
FOR NO KEY UPDATE SKIP LOCKED

-- name: held_runs
-- Runs of an integration of which something waits and nobody has decided.
SELECT * FROM run
WHERE integration = $1 AND state = 'held' AND hold_expires_at IS NOT NULL
ORDER BY id
FOR NO KEY UPDATE
