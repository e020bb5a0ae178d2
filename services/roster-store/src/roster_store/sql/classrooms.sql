-- name: list_classrooms
SELECT {columns}, class.origin, class.changed_at
FROM roster_served.classes AS class
WHERE class.active AND class.sourced_id > $1
  AND ($3::text IS NULL OR class.school_sourced_id = $3)
  AND ($4::text IS NULL OR $4 = ANY (class.term_sourced_ids))
  AND ($5::text IS NULL OR class.sourced_id IN (
      SELECT part.class_sourced_id FROM roster_served.enrollments AS part
      WHERE part.active AND part.user_sourced_id = $5 AND part.role = 'teacher'
        AND (NOT $7 OR (part.begin_date IS NULL OR part.begin_date <= $2) AND (part.end_date IS NULL OR part.end_date > $2))))
  AND ($6::text IS NULL OR class.sourced_id IN (
      SELECT part.class_sourced_id FROM roster_served.enrollments AS part
      WHERE part.active AND part.user_sourced_id = $6 AND part.role = 'student'
        AND (NOT $7 OR (part.begin_date IS NULL OR part.begin_date <= $2) AND (part.end_date IS NULL OR part.end_date > $2))))
  AND (NOT $7 OR {current})
ORDER BY class.sourced_id
LIMIT $8;

-- name: see_classroom
SELECT {columns}, class.origin, class.changed_at, class.version, {current} AS current
FROM roster_served.classes AS class WHERE class.sourced_id = $1 AND class.active AND $2::date IS NOT NULL;

-- name: list_teachers
-- The primary one first, then the others by name; of several classes at once.
SELECT part.class_sourced_id, part."primary", person.sourced_id, person.given_name, person.family_name
FROM roster_served.enrollments AS part
JOIN roster_served.users AS person ON person.sourced_id = part.user_sourced_id AND person.active
WHERE part.class_sourced_id = ANY ($1::text[]) AND part.active AND part.role = 'teacher'
ORDER BY part.class_sourced_id, coalesce(part."primary", false) DESC, person.family_name, person.given_name, person.sourced_id;

-- name: count_students
SELECT class_sourced_id, count(DISTINCT user_sourced_id) AS students FROM roster_served.enrollments
WHERE class_sourced_id = ANY ($1::text[]) AND active AND role = 'student'
GROUP BY 1;

-- name: list_terms
SELECT sourced_id, title, type, start_date, end_date FROM roster_served.academic_sessions
WHERE active AND sourced_id = ANY ($1::text[]) ORDER BY start_date, sourced_id;

-- name: see_course
SELECT sourced_id, title, course_code FROM roster_served.courses WHERE active AND sourced_id = $1;

-- name: list_members
SELECT part.sourced_id AS enrollment, part.role, part."primary", part.begin_date, part.end_date,
       {columns}, held.origin, held.changed_at
FROM roster_served.enrollments AS part
JOIN roster_served.users AS held ON held.sourced_id = part.user_sourced_id AND held.active
WHERE part.class_sourced_id = $1 AND part.active AND part.sourced_id > $2 AND ($3::text IS NULL OR part.role = $3)
ORDER BY part.sourced_id
LIMIT $4;
