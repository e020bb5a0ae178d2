-- name: count_held
SELECT count(*) FROM (
    SELECT FROM {table} WHERE integration_no = $1 AND active AND origin = 'synced' LIMIT $2
) AS counted;

-- name: count_configured
SELECT collection, count(*) FROM {gone} WHERE reason = 'configuration' GROUP BY collection;

-- name: count_leaving_demographics
SELECT NULL AS school, 0 AS own, count(*) AS following,
       count(*) FILTER (WHERE gone.reason = 'configuration') AS configured
FROM {gone} AS gone
WHERE gone.collection = 'demographics' AND gone.sourced_id IN (SELECT sourced_id FROM {gone} WHERE collection = 'users')
  AND $1::int IS NOT NULL;

-- name: count_leaving_users
-- Somebody of two schools leaves both.
SELECT place.school, count(*) AS own, 0 AS following, 0 AS configured
FROM {gone} AS gone
JOIN users AS held ON held.integration_no = $1 AND held.sourced_id = gone.sourced_id
CROSS JOIN LATERAL (
    SELECT DISTINCT role.value ->> 'orgSourcedId' AS school FROM jsonb_array_elements(held.roles) AS role
) AS place
WHERE gone.collection = 'users'
GROUP BY 1;

-- name: count_leaving_classes
SELECT held.school_sourced_id AS school, count(*) AS own, 0 AS following, 0 AS configured
FROM {gone} AS gone
JOIN classes AS held ON held.integration_no = $1 AND held.sourced_id = gone.sourced_id
WHERE gone.collection = 'classes'
GROUP BY 1;

-- name: count_leaving_courses
SELECT held.org_sourced_id AS school, count(*) AS own, 0 AS following, 0 AS configured
FROM {gone} AS gone
JOIN courses AS held ON held.integration_no = $1 AND held.sourced_id = gone.sourced_id
WHERE gone.collection = 'courses'
GROUP BY 1;

-- name: count_leaving_enrollments
-- Those of people who go as well are told apart.
SELECT coalesce(
           held.school_sourced_id,
           (SELECT class.school_sourced_id FROM classes AS class
            WHERE class.integration_no = $1 AND class.sourced_id = held.class_sourced_id)
       ) AS school,
       count(*) FILTER (WHERE person.sourced_id IS NULL) AS own,
       count(person.sourced_id) AS following,
       count(person.sourced_id) FILTER (WHERE gone.reason = 'configuration') AS configured
FROM {gone} AS gone
JOIN enrollments AS held ON held.integration_no = $1 AND held.sourced_id = gone.sourced_id
LEFT JOIN (SELECT sourced_id FROM {gone} WHERE collection = 'users') AS person ON person.sourced_id = held.user_sourced_id
WHERE gone.collection = 'enrollments'
GROUP BY 1;

-- name: count_enrollments_of_schools
-- What is held, and nothing else: one pass, and classes are only asked where enrollments do not name their school.
SELECT coalesce(counted.school, class.school_sourced_id) AS school, sum(counted.held)::bigint AS held
FROM (
    SELECT school_sourced_id AS school,
           CASE WHEN school_sourced_id IS NULL THEN class_sourced_id END AS class_sourced_id,
           count(*) AS held
    FROM enrollments
    WHERE integration_no = $1 AND active AND origin = 'synced'
    GROUP BY 1, 2
) AS counted
LEFT JOIN classes AS class ON class.integration_no = $1 AND class.sourced_id = counted.class_sourced_id
WHERE coalesce(counted.school, class.school_sourced_id) = ANY ($2::text[])
GROUP BY 1;

-- name: count_twins
-- People who go and have a twin among those who come: of the same name, e-mail or number. Once for everybody (null),
-- and once for each of their schools.
WITH coming AS MATERIALIZED (
    SELECT lower(btrim(staged.given_name)) AS given, lower(btrim(staged.family_name)) AS family,
           nullif(lower(btrim(staged.email)), '') AS email, nullif(btrim(staged.identifier), '') AS identifier,
           nullif(btrim(staged.user_master_identifier), '') AS master
    FROM {staged_users} AS staged
    LEFT JOIN users AS held ON held.integration_no = $1 AND held.sourced_id = staged.sourced_id
    WHERE held.active IS NOT TRUE
),
twins AS MATERIALIZED (
    SELECT held.sourced_id, held.roles
    FROM {gone} AS gone
    JOIN users AS held ON held.integration_no = $1 AND held.sourced_id = gone.sourced_id
    WHERE gone.collection = 'users'
      AND ((lower(btrim(held.given_name)), lower(btrim(held.family_name))) IN (SELECT given, family FROM coming)
           OR lower(btrim(held.email)) IN (SELECT email FROM coming WHERE email IS NOT NULL)
           OR btrim(held.identifier) IN (SELECT identifier FROM coming WHERE identifier IS NOT NULL)
           OR btrim(held.user_master_identifier) IN (SELECT master FROM coming WHERE master IS NOT NULL))
)
SELECT NULL AS school, count(*) FROM twins
UNION ALL
SELECT place.school, count(*)
FROM twins
CROSS JOIN LATERAL (
    SELECT DISTINCT role.value ->> 'orgSourcedId' AS school FROM jsonb_array_elements(twins.roles) AS role
) AS place
WHERE place.school IS NOT NULL
GROUP BY 1;
