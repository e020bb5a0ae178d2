-- name: begin_test_sign_in
INSERT INTO test_sign_in (id, connection_id, token_hash, by, expires_at)
VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5))
RETURNING *

-- name: open_test_sign_in
UPDATE test_sign_in SET opened_at = now(), support_id = $2
FROM connection
WHERE token_hash = $1 AND opened_at IS NULL AND expires_at > now()
    AND connection.id = test_sign_in.connection_id AND connection.deleted_at IS NULL
RETURNING test_sign_in.id, connection_id, connection.organization_id, connection.upstream_id

-- name: finish_test_sign_in
UPDATE test_sign_in SET ended_at = now(), result = $3 WHERE id = $1 AND connection_id = $2 AND ended_at IS NULL

-- name: show_test_sign_in
-- With how its launch ended, if it was refused on the way.
SELECT test_sign_in.*, launch.state AS launch_state, launch.code AS launch_code, launch.steps AS launch_steps,
    test_sign_in.expires_at < now() AS expired
FROM test_sign_in
JOIN connection ON connection.id = test_sign_in.connection_id AND connection.deleted_at IS NULL
LEFT JOIN launch ON launch.support_id = test_sign_in.support_id
WHERE test_sign_in.id = $1 AND connection.id = $2 AND ($3::uuid IS NULL OR connection.organization_id = $3)

-- name: sweep_test_sign_ins
DELETE FROM test_sign_in WHERE expires_at < now() - interval '7 days'
