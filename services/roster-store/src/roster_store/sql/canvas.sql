-- What a Canvas set holds. `$2` is the step since when what was removed is told of as well; null for never.

-- name: read_in_bulk
-- For this transaction: everything is read to its end, and views that hide rows can't be looked up one row at a time.
SELECT set_config('enable_nestloop', 'off', true), set_config('cursor_tuple_fraction', '1', true);

-- name: list_canvas_orgs
SELECT sourced_id, name, type, parent_sourced_id FROM roster_served.orgs
WHERE integration_no = $1 AND active ORDER BY sourced_id LIMIT 100000;

-- name: list_canvas_sessions
SELECT sourced_id, title, start_date, end_date, parent_sourced_id FROM roster_served.academic_sessions
WHERE integration_no = $1 AND active AND title <> '' ORDER BY sourced_id LIMIT 100000;

-- name: list_canvas_meetings
-- In which sessions classes meet, each combination once.
SELECT DISTINCT term_sourced_ids FROM roster_served.classes
WHERE integration_no = $1 AND (active OR changed_by > $2) AND title <> '' LIMIT 100000;

-- name: list_canvas_classes
-- Those that may share a course stand together.
SELECT class.sourced_id, class.active, class.title, class.class_code, class.school_sourced_id, class.term_sourced_ids,
       class.course_sourced_id, course.title AS course_title, course.course_code
FROM roster_served.classes AS class
LEFT JOIN roster_served.courses AS course
  ON course.integration_no = $1 AND course.sourced_id = class.course_sourced_id AND course.active
WHERE class.integration_no = $1 AND (class.active OR class.changed_by > $2) AND class.title <> ''
ORDER BY class.course_sourced_id, class.school_sourced_id, class.sourced_id;

-- name: list_canvas_users
-- Only whose login is known.
SELECT sourced_id, active, enabled_user, given_name, family_name, preferred_first_name, preferred_last_name, email,
       {login} AS login, roles
FROM roster_served.users
WHERE integration_no = $1 AND (active OR changed_by > $2) AND {login} <> '' AND roles <> '[]'::jsonb;

-- name: list_canvas_enrollments
-- Only those whose person and class are in the set.
SELECT enrollment.class_sourced_id, enrollment.user_sourced_id, enrollment.role, enrollment.active,
       enrollment.begin_date, enrollment.end_date, class.term_sourced_ids, class.active AS class_active
FROM roster_served.enrollments AS enrollment
JOIN roster_served.classes AS class
  ON class.integration_no = $1 AND class.sourced_id = enrollment.class_sourced_id
 AND (class.active OR class.changed_by > $2) AND class.title <> ''
JOIN roster_served.users AS person
  ON person.integration_no = $1 AND person.sourced_id = enrollment.user_sourced_id
 AND (person.active OR person.changed_by > $2) AND person.{login} <> '' AND person.roles <> '[]'::jsonb
WHERE enrollment.integration_no = $1 AND (enrollment.active OR enrollment.changed_by > $2)
ORDER BY enrollment.class_sourced_id, enrollment.user_sourced_id, enrollment.role, enrollment.sourced_id;

-- name: list_canvas_observers
-- Ties of guardians and students, from whichever side they are told.
SELECT pair.observer_id, pair.student_id
FROM (
    SELECT agent AS observer_id, sourced_id AS student_id FROM roster_served.users, unnest(agent_sourced_ids) AS agent
    WHERE integration_no = $1 AND active
    UNION
    SELECT sourced_id, agent FROM roster_served.users, unnest(agent_sourced_ids) AS agent
    WHERE integration_no = $1 AND active
) AS pair
JOIN roster_served.users AS observer
  ON observer.integration_no = $1 AND observer.sourced_id = pair.observer_id AND observer.active
 AND observer.{login} <> '' AND observer.roles @? '$[*] ? (@.role == "guardian" || @.role == "parent" || @.role == "relative")'
JOIN roster_served.users AS student
  ON student.integration_no = $1 AND student.sourced_id = pair.student_id AND student.active
 AND student.{login} <> '' AND student.roles @? '$[*] ? (@.role == "student")'
ORDER BY pair.observer_id, pair.student_id;

-- name: list_canvas_problems
-- Who and what is left out of a set, or may be refused by Canvas; some of it, and how much it is.
SELECT reason, collection, sourced_id, count(*) OVER (PARTITION BY reason) AS count
FROM (
    SELECT 'no_login' AS reason, 'users' AS collection, sourced_id FROM roster_served.users
    WHERE integration_no = $1 AND active AND coalesce({login}, '') = ''
    UNION ALL
    SELECT 'login_shared', 'users', sourced_id FROM (
        SELECT sourced_id, count(*) OVER (PARTITION BY lower({login})) AS sharing FROM roster_served.users
        WHERE integration_no = $1 AND active AND {login} <> '') AS person
    WHERE sharing > 1
    UNION ALL
    SELECT 'role', 'enrollments', sourced_id FROM roster_served.enrollments
    WHERE integration_no = $1 AND active AND role <> ALL ($2)
    UNION ALL
    SELECT 'reference', 'enrollments', sourced_id FROM roster_served.enrollments AS enrollment
    WHERE integration_no = $1 AND active AND NOT (
        EXISTS (SELECT FROM roster_served.classes AS class
                WHERE class.integration_no = $1 AND class.sourced_id = enrollment.class_sourced_id AND class.active)
        AND EXISTS (SELECT FROM roster_served.users AS person
                    WHERE person.integration_no = $1 AND person.sourced_id = enrollment.user_sourced_id AND person.active))
) AS problem
ORDER BY reason, sourced_id
LIMIT $3;
