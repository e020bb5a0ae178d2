-- name: count_orgs_by_school
SELECT coalesce(staged.sourced_id, held.sourced_id) AS school,
       (held.sourced_id IS NOT NULL)::int AS held,
       (staged.sourced_id IS NOT NULL AND held.sourced_id IS NULL)::int AS added,
       (held.fingerprint <> staged.fingerprint)::int AS changed,
       (gone.reason IS NOT NULL)::int AS removed,
       (gone.reason = 'configuration')::int AS configured,
       0 AS following
FROM (SELECT sourced_id, fingerprint FROM orgs WHERE integration_no = $1 AND active AND origin = 'synced') AS held
FULL JOIN (
    SELECT sourced_id, fingerprint FROM {staged_orgs} AS new
    WHERE NOT EXISTS (
        SELECT FROM orgs AS made
        WHERE made.integration_no = $1 AND made.sourced_id = new.sourced_id AND made.origin = 'manual'
    )
) AS staged ON staged.sourced_id = held.sourced_id
LEFT JOIN (SELECT sourced_id, reason FROM {gone} WHERE collection = 'orgs') AS gone ON gone.sourced_id = held.sourced_id;

-- name: count_records_by_school
-- Courses and classes, by the one field that names their school.
SELECT school, sum(held) AS held, sum(added) AS added, sum(changed) AS changed, sum(removed) AS removed,
       sum(configured) AS configured, sum(following) AS following
FROM (
    SELECT held.{school} AS school, count(*) AS held, 0 AS added, 0 AS changed,
           count(gone.reason) AS removed,
           count(*) FILTER (WHERE gone.reason = 'configuration') AS configured,
           0 AS following
    FROM {table} AS held
    LEFT JOIN (SELECT sourced_id, reason FROM {gone} WHERE collection = '{collection}') AS gone
           ON gone.sourced_id = held.sourced_id
    WHERE held.integration_no = $1 AND held.active AND held.origin = 'synced'
    GROUP BY 1
    UNION ALL
    SELECT staged.{school}, 0,
           count(*) FILTER (WHERE held.active IS NOT TRUE),
           count(*) FILTER (WHERE held.active AND held.fingerprint <> staged.fingerprint), 0, 0, 0
    FROM {staging} AS staged
    LEFT JOIN {table} AS held ON held.integration_no = $1 AND held.sourced_id = staged.sourced_id
    WHERE held.origin IS DISTINCT FROM 'manual'
    GROUP BY 1
) AS counted
WHERE school IS NOT NULL
GROUP BY 1;

-- name: count_users_by_school
-- Somebody who changes counts where they were and where they will be; somebody of two schools counts at each.
SELECT school, sum(held) AS held, sum(added) AS added, sum(changed) AS changed, sum(removed) AS removed,
       sum(configured) AS configured, sum(following) AS following
FROM (
    SELECT place.school, count(*) AS held, 0 AS added, 0 AS changed,
           count(gone.reason) AS removed,
           count(*) FILTER (WHERE gone.reason = 'configuration') AS configured,
           0 AS following
    FROM users AS held
    LEFT JOIN (SELECT sourced_id, reason FROM {gone} WHERE collection = 'users') AS gone
           ON gone.sourced_id = held.sourced_id
    CROSS JOIN LATERAL (
        SELECT DISTINCT role.value ->> 'orgSourcedId' AS school FROM jsonb_array_elements(held.roles) AS role
    ) AS place
    WHERE held.integration_no = $1 AND held.active AND held.origin = 'synced'
    GROUP BY 1
    UNION ALL
    SELECT place.school, 0,
           count(*) FILTER (WHERE held.active IS NOT TRUE),
           count(*) FILTER (WHERE held.active AND held.fingerprint <> staged.fingerprint), 0, 0, 0
    FROM {staged_users} AS staged
    LEFT JOIN users AS held ON held.integration_no = $1 AND held.sourced_id = staged.sourced_id
    CROSS JOIN LATERAL (
        SELECT role.value ->> 'orgSourcedId' AS school FROM jsonb_array_elements(staged.roles) AS role
        UNION
        SELECT role.value ->> 'orgSourcedId'
        FROM jsonb_array_elements(CASE WHEN held.active THEN held.roles ELSE '[]' END) AS role
    ) AS place
    WHERE held.origin IS DISTINCT FROM 'manual'
    GROUP BY 1
) AS counted
GROUP BY 1;

-- name: count_enrollments_by_school
-- An enrollment that names no school is of its class's. The class may be gone already, or just come.
SELECT school, sum(held) AS held, sum(added) AS added, sum(changed) AS changed, sum(removed) AS removed,
       sum(configured) AS configured, sum(following) AS following
FROM (
    SELECT coalesce(held.school_sourced_id, class.school_sourced_id) AS school,
           count(*) AS held, 0 AS added, 0 AS changed,
           count(gone.reason) AS removed,
           count(*) FILTER (WHERE gone.reason = 'configuration') AS configured,
           count(*) FILTER (WHERE gone.reason IS NOT NULL AND person.sourced_id IS NOT NULL) AS following
    FROM enrollments AS held
    LEFT JOIN classes AS class ON class.integration_no = $1 AND class.sourced_id = held.class_sourced_id
    LEFT JOIN (SELECT sourced_id, reason FROM {gone} WHERE collection = 'enrollments') AS gone
           ON gone.sourced_id = held.sourced_id
    LEFT JOIN (SELECT sourced_id FROM {gone} WHERE collection = 'users') AS person
           ON person.sourced_id = held.user_sourced_id
    WHERE held.integration_no = $1 AND held.active AND held.origin = 'synced'
    GROUP BY 1
    UNION ALL
    SELECT coalesce(staged.school_sourced_id, new_class.school_sourced_id, class.school_sourced_id), 0,
           count(*) FILTER (WHERE held.active IS NOT TRUE),
           count(*) FILTER (WHERE held.active AND held.fingerprint <> staged.fingerprint), 0, 0, 0
    FROM {staged_enrollments} AS staged
    LEFT JOIN enrollments AS held ON held.integration_no = $1 AND held.sourced_id = staged.sourced_id
    LEFT JOIN {staged_classes} AS new_class ON new_class.sourced_id = staged.class_sourced_id
    LEFT JOIN classes AS class ON class.integration_no = $1 AND class.sourced_id = staged.class_sourced_id
    WHERE held.origin IS DISTINCT FROM 'manual'
    GROUP BY 1
) AS counted
WHERE school IS NOT NULL
GROUP BY 1;
