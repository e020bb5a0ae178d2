-- name: survey_listing
-- A listing in the order of its ids: how long it is, the ids of its first page, and every so many one as a mark.
SELECT place, sourced_id
FROM (
    SELECT held.sourced_id, row_number() OVER listing AS place, lead(held.sourced_id) OVER listing IS NULL AS is_last
    FROM roster_served.{view} AS held
    WHERE {where}
    WINDOW listing AS (ORDER BY held.sourced_id {direction})
) AS listed
WHERE place <= {distance} OR place % {distance} = 0 OR is_last
ORDER BY place;

-- name: list_ids
SELECT held.sourced_id FROM roster_served.{view} AS held WHERE {where} ORDER BY {order};

-- name: list_records
SELECT {columns} FROM roster_served.{view} AS held WHERE {where}
ORDER BY held.sourced_id {direction} LIMIT {limit} OFFSET {offset};

-- name: find_records
SELECT {columns} FROM roster_served.{view} AS held WHERE {where};

-- name: find_step_since
-- The first step of an integration at or after a moment; all that was modified since has this number or a later one.
SELECT min(no) FROM apply WHERE integration_no = $1 AND applied_at >= $2;

-- name: find_courses_of_school
SELECT DISTINCT course_sourced_id FROM roster_served.classes
WHERE school_sourced_id = $1 AND active AND course_sourced_id IS NOT NULL;

-- name: find_classes_of_school
SELECT sourced_id FROM roster_served.classes WHERE school_sourced_id = $1;

-- name: find_terms_of_school
SELECT DISTINCT term FROM roster_served.classes CROSS JOIN unnest(term_sourced_ids) AS term
WHERE school_sourced_id = $1 AND active;

-- name: find_students_of_class
SELECT DISTINCT user_sourced_id FROM roster_served.enrollments
WHERE class_sourced_id = $1 AND active AND role = 'student';

-- name: find_teachers_of_class
SELECT DISTINCT user_sourced_id FROM roster_served.enrollments
WHERE class_sourced_id = $1 AND active AND role = 'teacher';

-- name: find_classes_of_user
SELECT DISTINCT class_sourced_id FROM roster_served.enrollments WHERE user_sourced_id = $1 AND active;

-- name: find_classes_of_student
SELECT DISTINCT class_sourced_id FROM roster_served.enrollments
WHERE user_sourced_id = $1 AND active AND role = 'student';

-- name: find_classes_of_teacher
SELECT DISTINCT class_sourced_id FROM roster_served.enrollments
WHERE user_sourced_id = $1 AND active AND role = 'teacher';

-- ── parts of statements, in which other SQL stands for words in braces ────────────────────────────────────────────

-- name: metadata_values
-- What is under a key of the metadata, as a list of texts; null for what is no value or list of values.
(SELECT CASE
    WHEN jsonb_typeof(value) = 'array' THEN ARRAY(
        SELECT one #>> '{}' FROM jsonb_array_elements(value) AS one
        WHERE jsonb_typeof(one) IN ('string', 'number', 'boolean'))
    WHEN jsonb_typeof(value) IN ('string', 'number', 'boolean') THEN ARRAY[value #>> '{}'] END
 FROM (SELECT ({metadata}) -> {key} AS value) AS entry);

-- name: metadata_value
CASE WHEN jsonb_typeof(({metadata}) -> {key}) IN ('string', 'number', 'boolean') THEN ({metadata}) ->> {key} END;

-- name: elements
-- A list made of each element of a jsonb list, which {sql} calls `one`.
ARRAY(SELECT {sql} FROM jsonb_array_elements(held.{column}) AS one);

-- name: primary_role
-- A person's primary role, or the first. Most have it first, which is quicker to see than to search for.
CASE WHEN held.roles -> 0 ->> 'roleType' = 'primary' THEN held.roles -> 0
     ELSE coalesce(jsonb_path_query_first(held.roles, '$[*] ? (@.roleType == "primary")'), held.roles -> 0) END;

-- name: over_schools
-- Whether a role is at an org that is known and is no school.
EXISTS (
    SELECT FROM roster_served.orgs AS place
    WHERE place.sourced_id = one ->> 'orgSourcedId' AND place.type NOT IN ('', 'school'));

-- name: district_orgs
-- The orgs of a person's roles as administrator that are no schools.
ARRAY(SELECT one ->> 'orgSourcedId' FROM jsonb_array_elements(held.roles) AS one
      WHERE one ->> 'role' = 'administrator' AND {over_schools});

-- name: enrollment_school
-- The standard requires a school. Where the provider names none it is the class's.
coalesce(held.school_sourced_id, (
    SELECT its.school_sourced_id FROM roster_served.classes AS its WHERE its.sourced_id = held.class_sourced_id));

-- name: program_metadata
-- The metadata of demographics, with what OneRoster has no field for.
jsonb_strip_nulls(jsonb_build_object(
    'frl_status', held.frl_status, 'iep_status', held.iep_status::text, 'ell_status', held.ell_status::text))
|| coalesce(held.metadata, '{}');
