-- name: list_orgs
SELECT coalesce(staged.sourced_id, held.sourced_id) AS sourced_id,
       coalesce(staged.type, held.type) = 'school' OR held.type = 'school' AS school,
       gone.reason
FROM (SELECT sourced_id, type FROM orgs WHERE integration_no = $1 AND active) AS held
FULL JOIN {staged_orgs} AS staged ON staged.sourced_id = held.sourced_id
LEFT JOIN (SELECT sourced_id, reason FROM {gone} WHERE collection = 'orgs') AS gone
       ON gone.sourced_id = coalesce(staged.sourced_id, held.sourced_id);

-- name: list_staged_people
SELECT role.value ->> 'orgSourcedId' AS org, count(*) AS arriving, bool_or(role.value ->> 'role' = 'student') AS learning
FROM {staged_users} AS staged CROSS JOIN LATERAL jsonb_array_elements(staged.roles) AS role
WHERE NOT EXISTS (
    SELECT FROM {gone} AS gone WHERE gone.collection = 'users' AND gone.sourced_id = staged.sourced_id
)
GROUP BY 1;

-- name: list_held_people
SELECT role.value ->> 'orgSourcedId' AS org,
       bool_or(role.value ->> 'role' = 'student') AS learned,
       bool_or(role.value ->> 'role' = 'student' AND gone.reason IS NULL AND staged.sourced_id IS NULL) AS learning,
       count(*) FILTER (WHERE role.value ->> 'role' = 'student' AND gone.reason <> 'configuration') AS lost,
       count(*) FILTER (WHERE role.value ->> 'role' = 'student' AND gone.reason = 'configuration') AS excused,
       bool_or(gone.reason IS NULL AND staged.sourced_id IS NULL OR gone.reason <> 'configuration') AS belonging,
       bool_or(gone.reason IS NOT NULL OR staged.sourced_id IS NOT NULL) AS touched
FROM users AS held
LEFT JOIN (SELECT sourced_id, reason FROM {gone} WHERE collection = 'users') AS gone ON gone.sourced_id = held.sourced_id
LEFT JOIN {staged_users} AS staged ON staged.sourced_id = held.sourced_id AND held.origin = 'synced'
CROSS JOIN LATERAL jsonb_array_elements(held.roles) AS role
WHERE held.integration_no = $1 AND held.active
GROUP BY 1;

-- name: list_staged_classes
SELECT staged.school_sourced_id AS org, count(*) AS arriving
FROM {staged_classes} AS staged
WHERE NOT EXISTS (
    SELECT FROM {gone} AS gone WHERE gone.collection = 'classes' AND gone.sourced_id = staged.sourced_id
)
GROUP BY 1;

-- name: list_held_classes
SELECT held.school_sourced_id AS org,
       bool_or(gone.reason IS NULL AND staged.sourced_id IS NULL) AS staying,
       count(gone.reason) FILTER (WHERE gone.reason <> 'configuration') AS lost,
       count(gone.reason) FILTER (WHERE gone.reason = 'configuration') AS excused,
       bool_or(gone.reason IS NOT NULL OR staged.sourced_id IS NOT NULL) AS touched
FROM classes AS held
LEFT JOIN (SELECT sourced_id, reason FROM {gone} WHERE collection = 'classes') AS gone ON gone.sourced_id = held.sourced_id
LEFT JOIN {staged_classes} AS staged ON staged.sourced_id = held.sourced_id AND held.origin = 'synced'
WHERE held.integration_no = $1 AND held.active
GROUP BY 1;

-- name: list_dangling_schools
SELECT coalesce(dangling.school_sourced_id, new_class.school_sourced_id, held_class.school_sourced_id) AS org,
       count(DISTINCT dangling.sourced_id) AS dangling
FROM {dangling} AS dangling
LEFT JOIN {staged_classes} AS new_class ON new_class.sourced_id = dangling.class_sourced_id
LEFT JOIN classes AS held_class
       ON held_class.integration_no = $1 AND held_class.sourced_id = dangling.class_sourced_id AND held_class.active
GROUP BY 1
HAVING count(DISTINCT dangling.sourced_id) > $2
   AND coalesce(dangling.school_sourced_id, new_class.school_sourced_id, held_class.school_sourced_id) IS NOT NULL;

-- name: count_school_enrollments
SELECT coalesce(staged.school_sourced_id, new_class.school_sourced_id, held_class.school_sourced_id) AS org, count(*)
FROM {staged_enrollments} AS staged
LEFT JOIN {staged_classes} AS new_class ON new_class.sourced_id = staged.class_sourced_id
LEFT JOIN classes AS held_class
       ON held_class.integration_no = $1 AND held_class.sourced_id = staged.class_sourced_id AND held_class.active
GROUP BY 1;

-- name: list_incomplete_schools
SELECT sourced_id FROM incomplete_school WHERE integration_no = $1;

-- name: forget_incomplete_schools
DELETE FROM incomplete_school WHERE integration_no = $1 AND sourced_id = ANY ($2::text[]);

-- name: keep_incomplete_schools
INSERT INTO incomplete_school (integration_no, sourced_id) SELECT $1, unnest($2::text[]) ON CONFLICT DO NOTHING;

-- name: drop_school_enrollments
DELETE FROM {staged_enrollments} WHERE school_sourced_id = ANY ($1::text[]);

-- name: drop_class_enrollments
DELETE FROM {staged_enrollments} AS staged
USING (
    SELECT new_class.sourced_id FROM {staged_classes} AS new_class WHERE new_class.school_sourced_id = ANY ($2::text[])
    UNION ALL
    SELECT held.sourced_id FROM classes AS held
    WHERE held.integration_no = $1 AND held.active AND held.school_sourced_id = ANY ($2::text[])
      AND NOT EXISTS (SELECT FROM {staged_classes} AS new_class WHERE new_class.sourced_id = held.sourced_id)
) AS class
WHERE class.sourced_id = staged.class_sourced_id;

-- name: drop_school_demographics
DELETE FROM {staged_demographics} AS told
WHERE told.sourced_id IN (
    SELECT person.sourced_id
    FROM (
        SELECT staged.sourced_id, coalesce(new_user.roles, held_user.roles) AS roles
        FROM {staged_demographics} AS staged
        LEFT JOIN {staged_users} AS new_user ON new_user.sourced_id = staged.sourced_id
        LEFT JOIN users AS held_user
               ON held_user.integration_no = $1 AND held_user.sourced_id = staged.sourced_id AND held_user.active
    ) AS person
    WHERE EXISTS (
              SELECT FROM jsonb_array_elements(person.roles) AS role
              WHERE role.value ->> 'orgSourcedId' = ANY ($2::text[])
          )
      AND NOT EXISTS (
              SELECT FROM jsonb_array_elements(person.roles) AS role
              WHERE role.value ->> 'orgSourcedId' = ANY ($3::text[])
          )
);

-- name: drop_school_users
DELETE FROM {staged_users} AS person
WHERE EXISTS (
          SELECT FROM jsonb_array_elements(person.roles) AS role
          WHERE role.value ->> 'orgSourcedId' = ANY ($1::text[])
      )
  AND NOT EXISTS (
          SELECT FROM jsonb_array_elements(person.roles) AS role
          WHERE role.value ->> 'orgSourcedId' = ANY ($2::text[])
      );

-- name: drop_school_classes
DELETE FROM {staged_classes} WHERE school_sourced_id = ANY ($1::text[]);

-- name: drop_school_courses
DELETE FROM {staged_courses} WHERE org_sourced_id = ANY ($1::text[]);

-- name: withhold_orgs
DELETE FROM {gone} AS gone USING orgs AS held
WHERE gone.collection = 'orgs' AND gone.reason <> 'configuration'
  AND held.integration_no = $1 AND held.sourced_id = gone.sourced_id AND held.sourced_id = ANY ($2::text[]);

-- name: withhold_courses
DELETE FROM {gone} AS gone USING courses AS held
WHERE gone.collection = 'courses' AND gone.reason <> 'configuration'
  AND held.integration_no = $1 AND held.sourced_id = gone.sourced_id AND held.org_sourced_id = ANY ($2::text[]);

-- name: withhold_classes
DELETE FROM {gone} AS gone USING classes AS held
WHERE gone.collection = 'classes' AND gone.reason <> 'configuration'
  AND held.integration_no = $1 AND held.sourced_id = gone.sourced_id AND held.school_sourced_id = ANY ($2::text[]);

-- name: withhold_users
DELETE FROM {gone} AS gone USING users AS held
WHERE gone.collection IN ('users', 'demographics') AND gone.reason <> 'configuration'
  AND held.integration_no = $1 AND held.sourced_id = gone.sourced_id AND held.active
  AND EXISTS (
      SELECT FROM jsonb_array_elements(held.roles) AS role WHERE role.value ->> 'orgSourcedId' = ANY ($2::text[])
  );

-- name: withhold_enrollments
DELETE FROM {gone} AS gone
USING enrollments AS held
LEFT JOIN classes AS class
       ON class.integration_no = $1 AND class.sourced_id = held.class_sourced_id AND class.active
WHERE gone.collection = 'enrollments' AND gone.reason <> 'configuration'
  AND held.integration_no = $1 AND held.sourced_id = gone.sourced_id
  AND (held.school_sourced_id = ANY ($2::text[]) OR class.school_sourced_id = ANY ($2::text[]));
