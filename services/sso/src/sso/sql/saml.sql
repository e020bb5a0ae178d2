-- name: keep_saml_arrival
WITH swept AS (
    DELETE FROM saml_arrival WHERE token_hash IN (
        SELECT token_hash FROM saml_arrival WHERE expires_at < now() LIMIT 10 FOR UPDATE SKIP LOCKED
    )
)
INSERT INTO saml_arrival (token_hash, browser_hash, upstream_id, arrival, expires_at)
VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5))

-- name: take_saml_arrival
DELETE FROM saml_arrival
WHERE token_hash = $1 AND browser_hash = $2 AND upstream_id = $3 AND expires_at > now()
RETURNING arrival

-- name: keep_saml_logout
WITH swept AS (
    DELETE FROM saml_logout WHERE request_hash IN (
        SELECT request_hash FROM saml_logout WHERE expires_at < now() LIMIT 10 FOR UPDATE SKIP LOCKED
    )
)
INSERT INTO saml_logout (request_hash, upstream_id, back, expires_at)
VALUES ($1, $2, $3, now() + make_interval(secs => $4))

-- name: take_saml_logout
DELETE FROM saml_logout WHERE request_hash = $1 AND upstream_id = $2 AND expires_at > now() RETURNING back

-- name: find_sessions_of_name_id
-- Which sessions an identity provider's logout means: all of somebody, or those it names.
SELECT id FROM session
WHERE upstream ->> 'name_id' = $1 AND upstream ->> 'upstream_id' = $2
    AND ($3::text[] IS NULL OR upstream ->> 'session_index' = ANY ($3))

-- name: know_product
SELECT EXISTS (SELECT FROM product WHERE id = $1)

-- name: know_destination
-- Whether a product has a destination by this name.
SELECT EXISTS (SELECT FROM relying_party WHERE product_id = $1 AND launches AND destinations ? $2)
