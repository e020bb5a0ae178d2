-- name: find_joined
SELECT EXISTS (SELECT FROM integration WHERE organization_id = $1 AND provider = $2);

-- name: lock_people
SELECT pg_advisory_xact_lock(hashtextextended('roster.people.' || $1::uuid, 0));

-- name: join_people
WITH joined AS MATERIALIZED (
    SELECT person.integration_no, person.sourced_id,
           nullif(lower(btrim(person.email, E' \t\r\n')), '') AS address,
           count(*) OVER (PARTITION BY person.integration_no, lower(btrim(person.email, E' \t\r\n'))) AS sharing
    FROM users AS person
    JOIN integration ON integration.no = person.integration_no
    WHERE integration.organization_id = $1 AND integration.provider = $2
      AND person.active AND person.origin = 'synced'
),
known AS (
    SELECT lower(btrim(person.email, E' \t\r\n')) AS address, count(*) AS sharing,
           min(person.integration_no) AS integration_no, min(person.sourced_id) AS sourced_id
    FROM users AS person
    JOIN integration ON integration.no = person.integration_no
    WHERE integration.organization_id = $1 AND integration.provider <> $2
      AND person.active AND person.origin = 'synced'
      AND lower(btrim(person.email, E' \t\r\n')) IN (SELECT address FROM joined)
    GROUP BY 1
),
judged AS (
    SELECT joined.integration_no, joined.sourced_id,
           known.integration_no AS sis_integration_no, known.sourced_id AS sis_sourced_id,
           CASE WHEN joined.address IS NULL THEN 'no_email'
                WHEN joined.sharing > 1 OR known.sharing > 1 THEN 'ambiguous'
                WHEN known.address IS NULL THEN 'unknown'
           END AS reason
    FROM joined LEFT JOIN known ON known.address = joined.address
),
links AS MATERIALIZED (
    SELECT integration_no, sourced_id, reason,
           CASE WHEN reason IS NULL THEN sis_integration_no END AS sis_integration_no,
           CASE WHEN reason IS NULL THEN sis_sourced_id END AS sis_sourced_id
    FROM judged
),
forgotten AS (
    DELETE FROM person_link AS held
    USING integration
    WHERE integration.no = held.integration_no AND integration.organization_id = $1
      AND NOT EXISTS (
          SELECT FROM links
          WHERE links.integration_no = held.integration_no AND links.sourced_id = held.sourced_id
      )
)
INSERT INTO person_link AS held (integration_no, sourced_id, sis_integration_no, sis_sourced_id, reason)
SELECT integration_no, sourced_id, sis_integration_no, sis_sourced_id, reason FROM links
ON CONFLICT (integration_no, sourced_id) DO UPDATE
SET sis_integration_no = excluded.sis_integration_no, sis_sourced_id = excluded.sis_sourced_id, reason = excluded.reason
WHERE (held.sis_integration_no, held.sis_sourced_id, held.reason)
      IS DISTINCT FROM (excluded.sis_integration_no, excluded.sis_sourced_id, excluded.reason);

-- name: count_unmatched
SELECT count(*) FILTER (WHERE reason IS NOT NULL) AS unmatched, count(*) AS people
FROM person_link WHERE integration_no = $1;

-- name: list_links
SELECT link.sourced_id, sis.id AS sis_integration_id, link.sis_sourced_id, link.reason
FROM person_link AS link
JOIN integration ON integration.no = link.integration_no
LEFT JOIN integration AS sis ON sis.no = link.sis_integration_no
WHERE integration.id = $1 AND ($2::uuid IS NULL OR integration.organization_id = $2)
  AND ($3::text IS NULL OR link.sourced_id > $3 COLLATE "C")
ORDER BY link.sourced_id
LIMIT $4;
