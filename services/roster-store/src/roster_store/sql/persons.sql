-- name: list_persons
SELECT {columns}, held.origin, held.changed_at
FROM roster_served.users AS held
WHERE held.active = $1 AND held.sourced_id > $2
  AND ($3::jsonb IS NULL OR held.roles @> $3)
  AND ($4::text IS NULL OR $4 = ANY (held.grades))
  AND ($5::text IS NULL OR held.sourced_id IN (
      SELECT part.user_sourced_id FROM roster_served.enrollments AS part
      WHERE part.active AND part.class_sourced_id = $5))
ORDER BY held.sourced_id
LIMIT $6;

-- name: see_person
SELECT {columns}, held.origin, held.changed_at, held.version
FROM roster_served.users AS held WHERE held.sourced_id = $1 AND held.active;

-- name: list_classes_of_person
SELECT part.sourced_id AS enrollment, part.role, part."primary", part.begin_date, part.end_date,
       class.sourced_id, class.title, class.class_code, class.school_sourced_id,
       (part.begin_date IS NULL OR part.begin_date <= $2) AND (part.end_date IS NULL OR part.end_date > $2) AND {current} AS current
FROM roster_served.enrollments AS part
JOIN roster_served.classes AS class ON class.sourced_id = part.class_sourced_id AND class.active
WHERE part.user_sourced_id = $1 AND part.active
ORDER BY class.title, class.sourced_id, part.sourced_id
LIMIT 1000;

-- name: class_is_current
-- Of class `class` on day $2: one of its terms is; a class without terms that are known always is.
(NOT EXISTS (
     SELECT FROM roster_served.academic_sessions AS term
     WHERE term.active AND term.sourced_id = ANY (class.term_sourced_ids))
 OR EXISTS (
     SELECT FROM roster_served.academic_sessions AS term
     WHERE term.active AND term.sourced_id = ANY (class.term_sourced_ids) AND term.start_date <= $2 AND term.end_date > $2))

-- name: list_persons_by_id
SELECT sourced_id, given_name, family_name, roles FROM roster_served.users
WHERE active AND sourced_id = ANY ($1::text[]) ORDER BY family_name, given_name, sourced_id;

-- name: list_wards
-- Whoever names a person as an agent; asked only for people with a guardian's role.
SELECT sourced_id, given_name, family_name, roles FROM roster_served.users
WHERE active AND agent_sourced_ids @> ARRAY[$1::text] ORDER BY family_name, given_name, sourced_id LIMIT 1000;

-- name: name_orgs
SELECT sourced_id, name, type FROM roster_served.orgs WHERE active AND sourced_id = ANY ($1::text[]);
