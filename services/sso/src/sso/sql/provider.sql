-- name: find_relying_party
SELECT relying_party.* FROM relying_party
JOIN client ON client.id = relying_party.client_id
    AND client.disabled_at IS NULL AND client.product_id = relying_party.product_id AND client.organization_id IS NULL
WHERE relying_party.client_id = $1

-- name: find_relying_party_of_product
SELECT relying_party.* FROM relying_party
JOIN client ON client.id = relying_party.client_id
    AND client.disabled_at IS NULL AND client.product_id = relying_party.product_id AND client.organization_id IS NULL
WHERE relying_party.product_id = $1 AND launches

-- name: join_session
-- The session is held, so that whoever ends it afterwards finds this row.
INSERT INTO participation (sid, session_id, client_id, subject)
SELECT $1, id, $3, $4 FROM session WHERE id = $2 AND expires_at > now() FOR KEY SHARE
ON CONFLICT (session_id, client_id) DO UPDATE SET subject = excluded.subject
RETURNING sid

-- name: make_hint
INSERT INTO login_hint (hash, session_id, launch_id, support_id, product_id, destination, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7))

-- name: take_hint
-- In the session of the launch, or in another one of the same person: of two tabs the later one's may be in the cookie.
DELETE FROM login_hint
WHERE hash = $1 AND expires_at > now() AND (session_id = $2 OR EXISTS (
    SELECT FROM session AS launched JOIN session AS here ON here.person_id = launched.person_id
    WHERE launched.id = login_hint.session_id AND here.id = $2
))
RETURNING *

-- name: keep_request
INSERT INTO authorization_request (hash, client_id, request, launch_id, support_id, purpose, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7))

-- name: find_request
SELECT * FROM authorization_request WHERE hash = $1 AND expires_at > now()

-- name: take_request
DELETE FROM authorization_request WHERE hash = $1 AND expires_at > now() RETURNING *

-- name: give_code
-- And that the session is in use.
WITH seen AS (
    UPDATE session SET last_seen_at = now() WHERE id = $7 AND last_seen_at < now() - interval '1 minute'
)
INSERT INTO authorization_code (
    hash, client_id, redirect_uri, challenge, nonce, scopes, session_id, subject, claims, launch_id, support_id,
    purpose, kind, expires_at, steps
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, now() + make_interval(secs => $14), $15)

-- name: redeem_code
-- Uses a code up, and writes down all that follows: the product was told of the session, a rostered person came in, the
-- grant with its tokens, and that the launch ended well. One statement, for each round trip more is felt in every launch.
-- Of several who come with a code at once one gets it. It is gone even if it does not fit or the session is over.
WITH code AS (
    DELETE FROM authorization_code WHERE hash = $1 AND client_id = $2 RETURNING *
), good AS (
    SELECT * FROM code WHERE expires_at > now() AND redirect_uri = $3 AND challenge = $4
), here AS (
    -- The session is held: whoever ends it meanwhile waits, and then finds that the product was told.
    SELECT session.* FROM good JOIN session ON session.id = good.session_id AND session.expires_at > now()
    FOR KEY SHARE OF session
), joined AS (
    INSERT INTO participation (sid, session_id, client_id, subject)
    SELECT $5, here.id, $2, good.subject FROM here, good
    ON CONFLICT (session_id, client_id) DO UPDATE SET subject = excluded.subject
    RETURNING sid
), arrived AS (
    INSERT INTO sign_in (id, integration_id, organization_id, product_id, sourced_id, at)
    SELECT $6, integration_id, organization_id, $7::uuid, sourced_id, now() FROM here
    WHERE $7::uuid IS NOT NULL AND integration_id IS NOT NULL AND sourced_id IS NOT NULL
), made AS (
    INSERT INTO product_grant (id, code_hash, client_id, session_id, subject, sid, scopes, expires_at)
    SELECT $8, $1, $2, here.id, good.subject, joined.sid, good.scopes, here.expires_at FROM here, good, joined
), tokens AS (
    INSERT INTO product_token (hash, grant_id, kind, expires_at)
    SELECT token.hash, $8, token.kind, least(here.expires_at, now() + make_interval(secs => token.seconds))
    FROM here, unnest($9::bytea[], $10::text[], $11::float8[]) AS token (hash, kind, seconds)
), ended AS (
    UPDATE launch SET state = 'completed', ended_at = now(), steps = launch.steps || good.steps || $12
    FROM here, good WHERE launch.id = good.launch_id AND launch.ended_at IS NULL
)
SELECT good.nonce, good.scopes, good.claims, good.purpose, good.kind, joined.sid, here.* FROM good, here, joined

-- name: revoke_grant_of_code
UPDATE product_grant SET revoked_at = now() WHERE code_hash = $1 AND client_id = $2 AND revoked_at IS NULL
RETURNING id

-- name: find_token
-- What a token stands for, while its grant and its session last; used refresh tokens as well.
SELECT product_token.used_at, product_token.expires_at AS ends_at, product_grant.id AS grant_id,
    product_grant.client_id, product_grant.subject, product_grant.sid, product_grant.scopes, session.*
FROM product_token
JOIN product_grant ON product_grant.id = product_token.grant_id AND revoked_at IS NULL
    AND product_grant.expires_at > now()
JOIN session ON session.id = product_grant.session_id AND session.expires_at > now()
    AND session.last_seen_at > now() - make_interval(secs => $3)
WHERE product_token.hash = $1 AND product_token.kind = $2 AND product_token.expires_at > now()

-- name: use_refresh_token
UPDATE product_token SET used_at = now() WHERE hash = $1 AND kind = 'refresh' AND used_at IS NULL RETURNING grant_id

-- name: add_tokens
INSERT INTO product_token (hash, grant_id, kind, expires_at)
SELECT token.hash, product_grant.id, token.kind, least(product_grant.expires_at, now() + make_interval(secs => seconds))
FROM unnest($2::bytea[], $3::text[], $4::float8[]) AS token (hash, kind, seconds)
JOIN product_grant ON product_grant.id = $1

-- name: revoke_grant
UPDATE product_grant SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1

-- name: revoke_token
-- A refresh token takes all of its grant along (RFC 7009 §2.1), also one that was used; an access token goes alone.
WITH found AS (
    SELECT product_token.hash, product_token.kind, product_grant.id FROM product_token
    JOIN product_grant ON product_grant.id = product_token.grant_id AND product_grant.client_id = $2
    WHERE product_token.hash = $1
), ended AS (
    UPDATE product_grant SET revoked_at = coalesce(revoked_at, now())
    WHERE id IN (SELECT id FROM found WHERE kind = 'refresh')
)
DELETE FROM product_token WHERE hash IN (SELECT hash FROM found WHERE kind = 'access')

-- name: find_participation
SELECT session_id, ended_at FROM participation WHERE sid = $1 AND client_id = $2

-- name: take_ended_participations
-- Those whose products are to hear of it now, some of each; nobody else takes them for a while.
WITH oldest AS (
    SELECT sid, client_id, due_at FROM participation WHERE ended_at IS NOT NULL AND due_at <= now()
    ORDER BY due_at LIMIT 2000
), ranked AS (
    SELECT sid, row_number() OVER (PARTITION BY client_id ORDER BY due_at, sid) AS place FROM oldest
), due AS (
    SELECT participation.sid FROM participation JOIN ranked ON ranked.sid = participation.sid
    WHERE place <= $3 ORDER BY place, participation.due_at LIMIT $1 FOR UPDATE OF participation SKIP LOCKED
)
UPDATE participation SET due_at = now() + make_interval(secs => $2), tries = tries + 1
FROM due WHERE participation.sid = due.sid
RETURNING participation.sid, client_id, subject, tries, extract(epoch FROM now() - ended_at)::float8 AS age

-- name: forget_participation
DELETE FROM participation WHERE sid = $1

-- name: put_participation_off
UPDATE participation SET due_at = now() + make_interval(secs => $2) WHERE sid = $1

-- name: put_client_off
-- Its endpoint does not answer: what else is due for it waits as well, so that it holds nobody up.
UPDATE participation SET due_at = now() + make_interval(secs => $2)
WHERE client_id = $1 AND ended_at IS NOT NULL AND due_at <= now() + make_interval(secs => $2)

-- name: sweep_provider
WITH hints AS (
    DELETE FROM login_hint WHERE expires_at < now()
), requests AS (
    DELETE FROM authorization_request WHERE expires_at < now()
), codes AS (
    DELETE FROM authorization_code WHERE expires_at < now()
), tokens AS (
    DELETE FROM product_token WHERE expires_at < now() AND kind = 'access'
)
DELETE FROM product_grant WHERE expires_at < now() - interval '1 hour'

-- name: list_relying_parties
SELECT relying_party.* FROM relying_party
WHERE client_id > $1 AND ($2::uuid IS NULL OR product_id = $2)
ORDER BY client_id LIMIT $3

-- name: read_relying_party
SELECT * FROM relying_party WHERE client_id = $1

-- name: lock_fitting_client
-- Whether a client may sign people in: it is a product's, for all its districts.
SELECT product_id, product_id IS NOT NULL AND organization_id IS NULL AND disabled_at IS NULL AS fits
FROM client WHERE id = $1 FOR KEY SHARE

-- name: put_relying_party
INSERT INTO relying_party (
    client_id, product_id, launches, launch_mode, redirect_uris, post_logout_redirect_uris, initiate_login_uri,
    launch_uri, backchannel_logout_uri, destinations, refresh_tokens, public, lti
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
ON CONFLICT (client_id) DO UPDATE SET
    product_id = excluded.product_id, launches = excluded.launches, launch_mode = excluded.launch_mode,
    redirect_uris = excluded.redirect_uris, post_logout_redirect_uris = excluded.post_logout_redirect_uris,
    initiate_login_uri = excluded.initiate_login_uri, launch_uri = excluded.launch_uri,
    backchannel_logout_uri = excluded.backchannel_logout_uri, destinations = excluded.destinations,
    refresh_tokens = excluded.refresh_tokens, public = excluded.public, lti = excluded.lti, updated_at = now()
RETURNING *

-- name: delete_relying_party
DELETE FROM relying_party WHERE client_id = $1 RETURNING product_id
