-- name: begin_session
INSERT INTO session (
    id, token_hash, person_id, organization_id, connection_id, integration_id, sourced_id, staff_id, shown_as,
    upstream, auth_time, expires_at
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, now(), now() + make_interval(secs => $11))
RETURNING *

-- name: continue_session
-- The same person's, by the same way: it gets a new token, unless it got one within the last minute.
UPDATE session SET
    token_hash = CASE WHEN previous_until > now() THEN token_hash ELSE $2 END,
    previous_hash = CASE WHEN previous_until > now() THEN previous_hash ELSE token_hash END,
    previous_until = CASE WHEN previous_until > now() THEN previous_until ELSE now() + interval '1 minute' END,
    auth_time = now(), last_seen_at = now(), upstream = $5, expires_at = now() + make_interval(secs => $6)
WHERE (token_hash = $1 OR previous_hash = $1 AND previous_until > now()) AND expires_at > now()
    AND person_id = $3 AND connection_id = $4 AND staff_id IS NULL
RETURNING *

-- name: find_session
SELECT *, last_seen_at < now() - interval '1 minute' AS unseen FROM session
WHERE (token_hash = $1 OR previous_hash = $1 AND previous_until > now()) AND expires_at > now() AND last_seen_at > now() - make_interval(secs => $2)

-- name: find_session_by_id
SELECT * FROM session
WHERE id = $1 AND expires_at > now() AND last_seen_at > now() - make_interval(secs => $2)

-- name: see_session
UPDATE session SET last_seen_at = now() WHERE id = $1

-- name: end_session
DELETE FROM session WHERE id = $1 RETURNING id

-- name: end_session_of_token
DELETE FROM session WHERE token_hash = $1 OR previous_hash = $1 AND previous_until > now() RETURNING id

-- name: end_sessions_of_person
DELETE FROM session WHERE person_id = $1 RETURNING id

-- name: end_participations
UPDATE participation SET ended_at = now() WHERE session_id = $1 AND ended_at IS NULL

-- name: sweep_sessions
-- The products they were told to hear of their end.
WITH over AS (
    SELECT id FROM session WHERE expires_at < now() OR last_seen_at < now() - make_interval(secs => $2)
    LIMIT $1 FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM session USING over WHERE session.id = over.id RETURNING session.id
), told AS (
    UPDATE participation SET ended_at = now() FROM gone WHERE session_id = gone.id AND ended_at IS NULL
)
SELECT count(*) FROM gone
