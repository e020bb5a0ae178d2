-- name: untie_identities
-- What a connection's portal calls somebody, by what the roster calls them now.
DELETE FROM identity USING person_name AS name
WHERE identity.connection_id = $1 AND name.person_id = identity.person_id
    AND name.integration_id = $2 AND name.sourced_id = $3 AND name.current
RETURNING identity.person_id

-- name: end_untied_sessions
-- Of those who came by the connection as them, to products or to Homeroom itself. Products are told.
WITH gone AS (
    DELETE FROM session
    WHERE connection_id = $1 AND (person_id = ANY ($4::uuid[]) OR integration_id = $2 AND sourced_id = $3)
    RETURNING id
)
UPDATE participation SET ended_at = now() FROM gone WHERE session_id = gone.id AND ended_at IS NULL
