-- name: list_erased_persons
SELECT DISTINCT person_id FROM person_name WHERE integration_id = $1 AND sourced_id = ANY ($2::text[])

-- name: end_erased_sessions
-- Of whoever was called that, and of staff who are known by it. Products are told.
WITH gone AS (
    DELETE FROM session
    WHERE person_id = ANY ($3::uuid[])
        OR integration_id = $1 AND sourced_id = ANY ($2::text[])
        OR staff_id IN (
            SELECT id FROM staff_account
            WHERE kind = 'rostered' AND integration_id = $1 AND sourced_id = ANY ($2::text[]))
        OR staff_id IN (
            SELECT staff_account.id FROM staff_account
            JOIN identity USING (connection_id, tenant, subject)
            WHERE kind = 'portal' AND identity.person_id = ANY ($3::uuid[]))
    RETURNING id
)
UPDATE participation SET ended_at = now() FROM gone WHERE session_id = gone.id AND ended_at IS NULL

-- name: erase_persons
-- What hangs on them goes along: portals' ids, names, links, requests.
DELETE FROM person WHERE id = ANY ($1::uuid[])

-- name: erase_staff
DELETE FROM staff_account WHERE kind = 'rostered' AND integration_id = $1 AND sourced_id = ANY ($2::text[])

-- name: erase_portal_staff
DELETE FROM staff_account USING identity
WHERE identity.person_id = ANY ($1::uuid[]) AND staff_account.kind = 'portal'
    AND (staff_account.connection_id, staff_account.tenant, staff_account.subject)
        = (identity.connection_id, identity.tenant, identity.subject)

-- name: erase_links
DELETE FROM linked_account WHERE integration_id = $1 AND sourced_id = ANY ($2::text[])

-- name: erase_link_requests
DELETE FROM link_request WHERE integration_id = $1 AND sourced_id = ANY ($2::text[])

-- name: erase_sign_ins
DELETE FROM sign_in WHERE integration_id = $1 AND sourced_id = ANY ($2::text[])

-- name: blank_launches
-- The traces stay, of nobody.
UPDATE launch SET sourced_id = NULL WHERE integration_id = $1 AND sourced_id = ANY ($2::text[])

-- name: blank_steps
-- Nor does a step that said whom a portal's key led to say it any more.
UPDATE launch SET steps = (
    SELECT jsonb_agg(CASE WHEN step ->> 'leads_to' = ANY ($2::text[]) THEN step - 'leads_to' ELSE step END ORDER BY place)
    FROM jsonb_array_elements(steps) WITH ORDINALITY AS one (step, place)
)
WHERE integration_id = $1 AND code = 'SIGNIN_AMBIGUOUS' AND EXISTS (
    SELECT FROM jsonb_array_elements(steps) AS step WHERE step ->> 'leads_to' = ANY ($2::text[])
)
