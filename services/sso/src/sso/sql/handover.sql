-- name: hand_over
INSERT INTO handed_over (
    hash, mode, login_hash, client_id, product_id, session_id, launch_id, support_id, kind, destination,
    deployment_id, expires_at
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, now() + make_interval(secs => $12))

-- name: find_handed_over
SELECT * FROM handed_over WHERE hash = $1 AND mode = $2 AND expires_at > now()

-- name: take_handed_over
-- Of several who come at once one gets it.
DELETE FROM handed_over WHERE hash = $1 AND mode = $2 AND client_id = $3 AND expires_at > now() RETURNING hash

-- name: sweep_handed_over
DELETE FROM handed_over WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM handed_over WHERE expires_at < now() - interval '1 minute' LIMIT $1 FOR UPDATE SKIP LOCKED
))

-- name: find_license_in_force
SELECT EXISTS (
    SELECT FROM license
    WHERE organization_id = $1 AND product_id = $2
        AND valid_from <= now() AND (valid_until IS NULL OR now() < valid_until) AND revoked_at IS NULL
)

-- name: ask_link
INSERT INTO link_request (
    id, token_hash, product_id, organization_id, connection_id, external_id, label, other_sign_in, return_to, by,
    expires_at
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, now() + make_interval(secs => $11))
RETURNING *

-- name: find_link_request
SELECT * FROM link_request WHERE id = $1 AND product_id = $2

-- name: open_link_request
-- The first browser that comes gets it, and keeps it until somebody has signed in.
UPDATE link_request SET browser_hash = $2, opened_at = coalesce(opened_at, now())
WHERE token_hash = $1 AND (browser_hash IS NULL OR browser_hash = $2)
    AND arrived_at IS NULL AND ended_at IS NULL AND expires_at > now()
RETURNING *

-- name: find_open_link_request
SELECT * FROM link_request
WHERE id = $1 AND browser_hash = $2 AND arrived_at IS NULL AND ended_at IS NULL AND expires_at > now()

-- name: arrive_for_link
UPDATE link_request SET
    arrived_at = now(), person_id = $3, at_organization = $4, at_connection = $5, integration_id = $6, sourced_id = $7,
    form_hash = $8, launch_id = $9, support_id = $10, kind = $11,
    expires_at = greatest(expires_at, now() + make_interval(secs => $12))
WHERE id = $1 AND browser_hash = $2 AND arrived_at IS NULL AND ended_at IS NULL AND expires_at > now()
RETURNING *

-- name: confirm_link_request
-- Whoever got no answer may say it again after a while: what the store did meanwhile it does once.
UPDATE link_request SET confirmed_at = now()
WHERE id = $1 AND browser_hash = $2 AND form_hash = $3 AND person_id IS NOT NULL
    AND (confirmed_at IS NULL OR confirmed_at < now() - interval '30 seconds')
    AND ended_at IS NULL AND expires_at > now()
RETURNING *

-- name: release_link_request
-- The store did not answer; the same form may be sent again.
UPDATE link_request SET confirmed_at = NULL WHERE id = $1 AND ended_at IS NULL

-- name: end_link_request
UPDATE link_request SET outcome = $2, ended_at = now(), label = '', form_hash = NULL
WHERE id = $1 AND ended_at IS NULL
RETURNING id

-- name: blank_link_requests
-- What names somebody is not kept longer than it is shown.
UPDATE link_request SET label = '' WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM link_request WHERE label <> '' AND expires_at < now() LIMIT $1 FOR UPDATE SKIP LOCKED
))

-- name: sweep_link_requests
DELETE FROM link_request WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM link_request WHERE created_at < now() - interval '7 days' LIMIT $1 FOR UPDATE SKIP LOCKED
))

-- name: keep_linked_account
INSERT INTO linked_account (
    product_id, organization_id, external_id, person_id, integration_id, sourced_id, connection_id, other_sign_in
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (product_id, organization_id, external_id) DO UPDATE SET
    person_id = excluded.person_id, integration_id = excluded.integration_id, sourced_id = excluded.sourced_id,
    connection_id = excluded.connection_id, other_sign_in = excluded.other_sign_in, linked_at = now()

-- name: list_linked_accounts
-- By the product's own id; whom each belongs to is what the roster calls them now.
SELECT linked_account.organization_id, linked_account.external_id, linked_account.other_sign_in,
    coalesce(person_name.integration_id, linked_account.integration_id) AS integration_id,
    coalesce(person_name.sourced_id, linked_account.sourced_id) AS sourced_id
FROM linked_account
LEFT JOIN person_name ON person_name.person_id = linked_account.person_id AND person_name.current
WHERE product_id = $1 AND external_id = $2 AND ($3::uuid IS NULL OR organization_id = $3)
ORDER BY organization_id LIMIT 2

-- name: drop_linked_account
DELETE FROM linked_account WHERE product_id = $1 AND organization_id = $2 AND external_id = $3 RETURNING external_id

-- name: list_accounts_of_person
SELECT linked_account.product_id, organization_id, external_id, other_sign_in, product.name AS product
FROM linked_account
LEFT JOIN product ON product.id = linked_account.product_id
WHERE person_id = $1
ORDER BY product.name, external_id LIMIT $2

-- name: find_account_of_person
SELECT other_sign_in FROM linked_account
WHERE person_id = $1 AND product_id = $2 AND organization_id = $3 AND external_id = $4
