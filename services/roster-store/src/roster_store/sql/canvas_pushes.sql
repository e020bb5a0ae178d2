-- name: request_canvas_push
-- What waits already takes this one in.
INSERT INTO canvas_push (id, target_id, by_hand, confirmed, due_at) VALUES ($1, $2, true, $3, now())
ON CONFLICT (target_id) WHERE state = 'waiting'
DO UPDATE SET by_hand = true, due_at = now(), confirmed = coalesce(excluded.confirmed, canvas_push.confirmed)
RETURNING *;

-- name: enqueue_canvas_pushes
-- Of every roster that changed since it was pushed the last time, and once a day of all, since enrollments begin and
-- end by themselves; not of what is not licensed. After a change it is waited a little, so that several are one push.
INSERT INTO canvas_push (id, target_id, by_hand, due_at)
SELECT gen_random_uuid(), target.id, false, now() + make_interval(secs => $1)
FROM canvas_target AS target
WHERE target.automatic AND target.held_code IS NULL
  AND (coalesce((SELECT max(no) FROM apply WHERE apply.integration_no = target.integration_no), 0) > target.tried_step
       OR target.tried_at < now() - make_interval(secs => $2))
  AND (target.product_id IS NULL OR EXISTS (
      SELECT FROM access
      WHERE access.product_id = target.product_id AND access.organization_id = target.organization_id AND until > now()))
  AND NOT EXISTS (SELECT FROM canvas_push WHERE canvas_push.target_id = target.id AND state = 'waiting')
ON CONFLICT DO NOTHING;

-- name: claim_canvas_push
-- The next one that is due: one that waits while no other of its target is under way, or one whose worker is gone.
UPDATE canvas_push SET state = 'working', holder = $1, lease_until = now() + make_interval(secs => $2),
       started_at = coalesce(started_at, now())
WHERE id = (
    SELECT push.id FROM canvas_push AS push
    WHERE push.due_at <= now()
      AND ((push.state = 'working' AND (push.lease_until IS NULL OR push.lease_until < now()))
           OR (push.state = 'waiting' AND NOT EXISTS (
               SELECT FROM canvas_push AS other WHERE other.target_id = push.target_id AND other.state = 'working')))
    ORDER BY push.due_at
    LIMIT 1
    FOR UPDATE SKIP LOCKED)
RETURNING *;

-- name: renew_canvas_push
UPDATE canvas_push SET lease_until = now() + make_interval(secs => $3) WHERE id = $1 AND holder = $2
RETURNING id;

-- name: note_canvas_set
UPDATE canvas_push SET counts = $3, bytes = $4, step = $5 WHERE id = $1 AND holder = $2;

-- name: note_canvas_attempt
-- What is pushed counts as tried from now on, whatever becomes of it.
UPDATE canvas_target SET tried_step = greatest(tried_step, $2), tried_at = now() WHERE id = $1;

-- name: await_canvas_import
-- Uploaded: to be asked about again in a while.
UPDATE canvas_push SET import_id = $3, workflow_state = $4, progress = $5, uploaded_at = coalesce(uploaded_at, now()),
       tries = $6, due_at = now() + make_interval(secs => $7), holder = NULL, lease_until = NULL
WHERE id = $1 AND holder = $2;

-- name: postpone_canvas_push
UPDATE canvas_push SET tries = tries + 1, code = $3, detail = $4, due_at = now() + make_interval(secs => $5),
       holder = NULL, lease_until = NULL
WHERE id = $1 AND holder = $2;

-- name: release_canvas_push
UPDATE canvas_push SET holder = NULL, lease_until = NULL WHERE id = $1 AND holder = $2 AND state = 'working';

-- name: finish_canvas_push
UPDATE canvas_push SET state = $3, code = $4, detail = $5, workflow_state = coalesce($6, workflow_state),
       progress = coalesce($7, progress), messages = $8, message_count = $9, finished_at = now(), holder = NULL,
       lease_until = NULL
WHERE id = $1 AND holder = $2
RETURNING target_id;

-- name: settle_canvas_target
-- What Canvas took is what the next set is compared with.
UPDATE canvas_target SET held_code = $2, held_counts = $3, counts = coalesce($4, counts), basis = coalesce(basis, $5)
WHERE id = $1 AND generation = $6;

-- name: list_canvas_pushes
SELECT * FROM canvas_push WHERE target_id = $1 AND ($2::uuid IS NULL OR id = $2) ORDER BY created_at DESC, id LIMIT $3;

-- name: forget_canvas_pushes
DELETE FROM canvas_push
WHERE id IN (
    SELECT id FROM (
        SELECT id, row_number() OVER (PARTITION BY target_id ORDER BY created_at DESC, id) AS place
        FROM canvas_push WHERE state IN ('held', 'succeeded', 'failed')) AS old
    WHERE place > $1
    LIMIT 5000);
