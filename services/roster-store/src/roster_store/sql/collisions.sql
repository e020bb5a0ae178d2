-- name: find_collisions
WITH incoming AS MATERIALIZED (
    SELECT person.sourced_id, person.{field} AS value
    FROM prospect_users AS person
    JOIN {changes} AS change ON change.collection = 'users' AND change.sourced_id = person.sourced_id
    WHERE change.change <> 'removed' AND person.stays AND person.{field} IS NOT NULL
),
others AS (
    SELECT nullif(lower(btrim(other.{field}, E' \t\r\n')), '') AS value, other.sourced_id,
           integration.id AS integration_id, other.origin
    FROM users AS other
    JOIN integration ON integration.no = other.integration_no
    WHERE integration.organization_id = $2 AND other.active AND integration.provider <> $3
      AND (integration.no <> $1 OR other.origin = 'manual')
),
found AS MATERIALIZED (
    SELECT incoming.sourced_id, others.sourced_id AS other_sourced_id, others.integration_id, others.origin
    FROM incoming JOIN others ON others.value = incoming.value
)
SELECT (SELECT count(DISTINCT sourced_id) FROM found) AS people, shown.*
FROM (SELECT) AS always
LEFT JOIN (SELECT * FROM found ORDER BY sourced_id, integration_id, other_sourced_id LIMIT $4) AS shown ON true;

-- name: find_collisions_within
WITH sharing AS (
    SELECT sourced_id, min(sourced_id) OVER same AS least, max(sourced_id) OVER same AS greatest
    FROM prospect_users WHERE stays AND {field} IS NOT NULL
    WINDOW same AS (PARTITION BY {field})
),
found AS MATERIALIZED (
    SELECT sharing.sourced_id, CASE WHEN sharing.least = sharing.sourced_id THEN greatest ELSE least END AS other_sourced_id
    FROM sharing
    JOIN {changes} AS change ON change.collection = 'users' AND change.sourced_id = sharing.sourced_id
    WHERE sharing.least <> sharing.greatest AND change.change <> 'removed'
)
SELECT (SELECT count(*) FROM found) AS people, shown.*, NULL::uuid AS integration_id, 'synced' AS origin
FROM (SELECT) AS always
LEFT JOIN (SELECT * FROM found ORDER BY sourced_id LIMIT $1) AS shown ON true;
