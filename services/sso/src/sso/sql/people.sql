-- name: find_answer
SELECT answer, extract(epoch FROM now() - asked_at)::float8 AS age FROM person_answer
WHERE integration_id = $1 AND field = $2 AND value = $3 AND product_id = $4
    AND asked_at > now() - make_interval(secs => $5)

-- name: keep_answer
INSERT INTO person_answer (integration_id, field, value, product_id, sourced_id, answer, asked_at)
VALUES ($1, $2, $3, $4, $5, $6, now())
ON CONFLICT (integration_id, field, value, product_id)
DO UPDATE SET sourced_id = excluded.sourced_id, answer = excluded.answer, asked_at = excluded.asked_at

-- name: forget_answers
DELETE FROM person_answer WHERE integration_id = $1 AND (sourced_id = ANY ($2::text[]) OR value = ANY ($2::text[]))

-- name: sweep_answers
DELETE FROM person_answer WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM person_answer WHERE asked_at < now() - make_interval(secs => $2) LIMIT $1 FOR UPDATE SKIP LOCKED
))

-- name: find_door
-- The connection behind an upstream: the only one, or of a shared one the tenant's; and whether its district licenses
-- the product now.
SELECT connection.*, organization.name AS organization_name, coalesce(integration.deleted, false) AS integration_deleted,
    $3::uuid IS NULL OR EXISTS (
        SELECT FROM license
        WHERE license.organization_id = connection.organization_id AND license.product_id = $3
            AND valid_from <= now() AND (valid_until IS NULL OR now() < valid_until) AND revoked_at IS NULL
    ) AS licensed
FROM connection
LEFT JOIN organization ON organization.id = connection.organization_id
LEFT JOIN integration ON integration.id = connection.integration_id
WHERE upstream_id = $1 AND connection.deleted_at IS NULL
    AND (connection.tenant = $2 OR connection.tenant IS NULL AND connection.id = connection.upstream_id)

-- name: find_connection
SELECT connection.*, organization.name AS organization_name, coalesce(integration.deleted, false) AS integration_deleted,
    $2::uuid IS NULL OR EXISTS (
        SELECT FROM license
        WHERE license.organization_id = connection.organization_id AND license.product_id = $2
            AND valid_from <= now() AND (valid_until IS NULL OR now() < valid_until) AND revoked_at IS NULL
    ) AS licensed
FROM connection
LEFT JOIN organization ON organization.id = connection.organization_id
LEFT JOIN integration ON integration.id = connection.integration_id
WHERE connection.id = $1 AND connection.deleted_at IS NULL

-- name: find_identity
SELECT identity.person_id, last_used_at < now() - interval '1 day' AS unused,
    name.sourced_id, coalesce(name.elsewhere, false) AS elsewhere,
    (SELECT coalesce(array_agg(sourced_id), '{}') FROM person_name
     WHERE person_name.person_id = identity.person_id AND integration_id = $4 AND NOT current) AS aliases
FROM identity
LEFT JOIN LATERAL (
    SELECT CASE WHEN integration_id = $4 THEN sourced_id END AS sourced_id, integration_id IS DISTINCT FROM $4 AS elsewhere
    FROM person_name WHERE person_name.person_id = identity.person_id AND current
) AS name ON true
WHERE connection_id = $1 AND tenant = $2 AND subject = $3

-- name: lock_tie
SELECT pg_advisory_xact_lock(hashtextextended($1, 8374))

-- name: find_named_person
-- Whom a roster calls that. Whoever was called that before only if the name they go by now was this one's before, too:
-- a sourcedId may be given to somebody else.
SELECT person_id FROM person_name AS held
WHERE integration_id = $1 AND sourced_id = $2 AND (current OR EXISTS (
    SELECT FROM person_name AS newest
    WHERE newest.person_id = held.person_id AND newest.current
        AND newest.integration_id = $1 AND newest.sourced_id = ANY ($3::text[])
))

-- name: find_tied_person
SELECT person_id FROM identity WHERE connection_id = $1 AND tenant = $2 AND subject = $3

-- name: make_person
INSERT INTO person (organization_id) VALUES ($1) RETURNING id

-- name: name_person
-- A person has one current name; those before it stay as aliases.
INSERT INTO person_name (integration_id, sourced_id, person_id, current) VALUES ($1, $2, $3, true)
ON CONFLICT (integration_id, sourced_id) DO UPDATE SET current = true, person_id = excluded.person_id

-- name: retire_names
UPDATE person_name SET current = false
WHERE person_id = $3 AND current AND (integration_id, sourced_id) <> ($1, $2)

-- name: tie_identity
INSERT INTO identity (connection_id, tenant, subject, person_id) VALUES ($1, $2, $3, $4)
ON CONFLICT (connection_id, tenant, subject) DO UPDATE SET person_id = excluded.person_id, last_used_at = now()

-- name: use_identity
UPDATE identity SET last_used_at = now()
WHERE connection_id = $1 AND tenant = $2 AND subject = $3
