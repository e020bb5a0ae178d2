-- name: count_prospect
SELECT (SELECT count(*) FROM prospect_orgs WHERE stays) AS orgs,
       (SELECT count(*) FROM prospect_orgs WHERE stays AND type = 'school') AS schools,
       (SELECT count(*) FROM prospect_academic_sessions WHERE stays) AS sessions,
       (SELECT count(*) FROM prospect_classes WHERE stays) AS classes,
       (SELECT count(*) FROM prospect_enrollments WHERE stays) AS enrollments,
       people.*
FROM (
    SELECT count(*) AS people,
           count(*) FILTER (WHERE student) AS students,
           count(*) FILTER (WHERE teacher) AS teachers,
           count(*) FILTER (WHERE guardian) AS guardians,
           count(*) FILTER (WHERE NOT student AND NOT guardian) AS staff,
           count(email) AS emails, count(username) AS usernames, count(identifier) AS identifiers
    FROM prospect_users WHERE stays
) AS people;

-- name: examine
WITH found AS MATERIALIZED ({offenders})
SELECT (SELECT count(*) FROM found) AS count,
       ARRAY(SELECT sourced_id FROM found ORDER BY sourced_id LIMIT $1) AS examples;

-- name: find_students_without_classes
SELECT person.sourced_id FROM prospect_users AS person
WHERE person.stays AND person.student AND NOT EXISTS (
    SELECT FROM prospect_enrollments AS one
    WHERE one.stays AND one.user_sourced_id = person.sourced_id AND one.role = 'student'
)

-- name: find_teachers_without_classes
SELECT person.sourced_id FROM prospect_users AS person
WHERE person.stays AND person.teacher AND NOT EXISTS (
    SELECT FROM prospect_enrollments AS one
    WHERE one.stays AND one.user_sourced_id = person.sourced_id AND one.role = 'teacher'
)

-- name: find_classes_without_students
SELECT class.sourced_id FROM prospect_classes AS class
WHERE class.stays AND NOT EXISTS (
    SELECT FROM prospect_enrollments AS one
    WHERE one.stays AND one.class_sourced_id = class.sourced_id AND one.role = 'student'
)

-- name: find_classes_without_teachers
SELECT class.sourced_id FROM prospect_classes AS class
WHERE class.stays AND NOT EXISTS (
    SELECT FROM prospect_enrollments AS one
    WHERE one.stays AND one.class_sourced_id = class.sourced_id AND one.role = 'teacher'
)

-- name: find_classes_at_unknown_schools
SELECT class.sourced_id FROM prospect_classes AS class
WHERE class.stays AND NOT EXISTS (
    SELECT FROM prospect_orgs AS org WHERE org.stays AND org.sourced_id = class.school_sourced_id
)

-- name: find_people_at_unknown_orgs
SELECT DISTINCT place.sourced_id
FROM (SELECT sourced_id, unnest(orgs) AS org FROM prospect_users WHERE stays) AS place
WHERE NOT EXISTS (SELECT FROM prospect_orgs AS org WHERE org.stays AND org.sourced_id = place.org)

-- name: find_people_without_school
SELECT person.sourced_id FROM prospect_users AS person
WHERE person.stays AND (person.student OR person.teacher) AND NOT EXISTS (
    SELECT FROM (SELECT sourced_id, unnest(orgs) AS org FROM prospect_users WHERE stays) AS place
    JOIN prospect_orgs AS org ON org.sourced_id = place.org AND org.stays AND org.type = 'school'
    WHERE place.sourced_id = person.sourced_id
)

-- name: find_schools_without_classes
SELECT org.sourced_id FROM prospect_orgs AS org
WHERE org.stays AND org.type = 'school' AND NOT EXISTS (
    SELECT FROM prospect_classes AS class WHERE class.stays AND class.school_sourced_id = org.sourced_id
)

-- name: find_schools_without_students
SELECT org.sourced_id FROM prospect_orgs AS org
WHERE org.stays AND org.type = 'school' AND NOT EXISTS (
    SELECT FROM (SELECT unnest(orgs) AS org FROM prospect_users WHERE stays AND student) AS place
    WHERE place.org = org.sourced_id
)

-- name: find_duplicate_emails
SELECT sourced_id
FROM (
    SELECT sourced_id, count(*) OVER (PARTITION BY email) AS sharing
    FROM prospect_users WHERE stays AND email IS NOT NULL
) AS person
WHERE sharing > 1

-- name: find_duplicate_usernames
SELECT sourced_id
FROM (
    SELECT sourced_id, count(*) OVER (PARTITION BY username) AS sharing
    FROM prospect_users WHERE stays AND username IS NOT NULL
) AS person
WHERE sharing > 1

-- name: find_duplicate_identifiers
SELECT sourced_id
FROM (
    SELECT sourced_id, count(*) OVER (PARTITION BY identifier) AS sharing
    FROM prospect_users WHERE stays AND identifier IS NOT NULL
) AS person
WHERE sharing > 1

-- name: find_students_without_email
SELECT sourced_id FROM prospect_users WHERE stays AND student AND email IS NULL

-- name: find_staff_without_email
SELECT sourced_id FROM prospect_users WHERE stays AND NOT student AND NOT guardian AND email IS NULL

-- name: find_students_without_grade
SELECT sourced_id FROM prospect_users WHERE stays AND student AND NOT graded

-- name: find_guardians_without_students
-- A provider may tie the two together on either side.
SELECT person.sourced_id FROM prospect_users AS person
WHERE person.stays AND person.guardian
  AND NOT EXISTS (
      SELECT FROM (SELECT sourced_id, unnest(agents) AS student FROM prospect_users WHERE stays AND guardian) AS tie
      JOIN prospect_users AS child ON child.sourced_id = tie.student AND child.stays AND child.student
      WHERE tie.sourced_id = person.sourced_id
  )
  AND NOT EXISTS (
      SELECT FROM (SELECT unnest(agents) AS guardian FROM prospect_users WHERE stays AND student) AS tie
      WHERE tie.guardian = person.sourced_id
  )

-- name: find_enrollments_outside_terms
SELECT one.sourced_id
FROM prospect_enrollments AS one
JOIN (
    SELECT term.class, min(session.start_date) AS begins, max(session.end_date) AS ends
    FROM (SELECT sourced_id AS class, unnest(term_sourced_ids) AS term FROM prospect_classes WHERE stays) AS term
    JOIN prospect_academic_sessions AS session ON session.sourced_id = term.term AND session.stays
    GROUP BY term.class
) AS span ON span.class = one.class_sourced_id
WHERE one.stays AND (one.begin_date >= span.ends OR one.end_date <= span.begins)

-- name: find_classes_whose_terms_ended
SELECT term.class AS sourced_id
FROM (SELECT sourced_id AS class, unnest(term_sourced_ids) AS term FROM prospect_classes WHERE stays) AS term
JOIN prospect_academic_sessions AS session ON session.sourced_id = term.term AND session.stays
GROUP BY term.class
HAVING max(session.end_date) <= current_date

-- name: find_no_current_session
SELECT sourced_id FROM prospect_academic_sessions
WHERE stays AND NOT EXISTS (
    SELECT FROM prospect_academic_sessions AS session
    WHERE session.stays AND session.start_date <= current_date AND session.end_date > current_date
)
