-- name: abandon_launches
-- Nobody came back: somebody closed the tab, or the portal never answered.
WITH open AS (
    SELECT id FROM launch WHERE state IN ('begun', 'signed-in') AND began_at < now() - make_interval(secs => $2)
    ORDER BY began_at LIMIT $1 FOR UPDATE SKIP LOCKED
), ended AS (
    UPDATE launch SET state = 'abandoned', ended_at = now() FROM open WHERE launch.id = open.id
    RETURNING launch.upstream_id, launch.purpose
)
SELECT coalesce(upstream.kind, 'none') AS kind, purpose, count(*) AS launches
FROM ended LEFT JOIN upstream ON upstream.id = ended.upstream_id
GROUP BY 1, 2

-- name: lock_days
SELECT pg_try_advisory_xact_lock(hashtextextended('sso.launch_day', 0))

-- name: find_due_day
-- The first day that is not counted, if it is over since an hour: launches of its last minutes have ended by then.
SELECT day FROM (
    SELECT coalesce((SELECT max(day) + 1 FROM launch_day), (SELECT min(began_at)::date FROM launch)) AS day
) AS next
WHERE day < (now() - interval '1 hour')::date

-- name: count_day
INSERT INTO launch_count (upstream_id, connection_id, day, outcome, launches)
SELECT coalesce(upstream_id, '00000000-0000-0000-0000-000000000000'),
    coalesce(connection_id, '00000000-0000-0000-0000-000000000000'), $1::date, {outcome}, count(*)
FROM launch
WHERE began_at >= $1::date AND began_at < $1::date + 1 AND purpose <> 'test'
GROUP BY 1, 2, 4

-- name: close_day
INSERT INTO launch_day (day) VALUES ($1)

-- name: forget_launches
-- Those of days that are counted.
DELETE FROM launch WHERE id = ANY (ARRAY(
    SELECT id FROM launch
    WHERE began_at < now() - make_interval(days => $2) AND began_at < (SELECT max(day) + 1 FROM launch_day)
    ORDER BY began_at LIMIT $1 FOR UPDATE SKIP LOCKED
))

-- name: forget_counts
DELETE FROM launch_count WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM launch_count WHERE day < current_date - $2::int LIMIT $1 FOR UPDATE SKIP LOCKED
))

-- name: forget_days
-- But for the last one, by which the next is found.
DELETE FROM launch_day WHERE day = ANY (ARRAY(
    SELECT day FROM launch_day WHERE day < current_date - $2::int AND day < (SELECT max(day) FROM launch_day) LIMIT $1
))

-- name: forget_identities
-- Portals' users who did not come for long.
DELETE FROM identity WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM identity WHERE last_used_at < now() - make_interval(days => $2) LIMIT $1 FOR UPDATE SKIP LOCKED
))
RETURNING person_id

-- name: forget_persons
-- Those of some people who have no portal any more, and no browser either.
DELETE FROM person WHERE id = ANY ($1::uuid[])
    AND NOT EXISTS (SELECT FROM identity WHERE identity.person_id = person.id)
    AND NOT EXISTS (SELECT FROM session WHERE session.person_id = person.id)

-- name: forget_participations
-- Nobody could be told of these ends in all that time.
DELETE FROM participation WHERE sid = ANY (ARRAY(
    SELECT sid FROM participation WHERE ended_at < now() - interval '7 days' LIMIT $1 FOR UPDATE SKIP LOCKED
))

-- name: forget_saml_arrivals
DELETE FROM saml_arrival WHERE token_hash = ANY (ARRAY(
    SELECT token_hash FROM saml_arrival WHERE expires_at < now() LIMIT $1 FOR UPDATE SKIP LOCKED
))

-- name: forget_saml_logouts
DELETE FROM saml_logout WHERE request_hash = ANY (ARRAY(
    SELECT request_hash FROM saml_logout WHERE expires_at < now() LIMIT $1 FOR UPDATE SKIP LOCKED
))
