-- name: create_plan_changes
CREATE TABLE {changes} (LIKE plan_change_fields INCLUDING IDENTITY, PRIMARY KEY (place))
WITH (autovacuum_enabled = false);

-- name: label_orgs
SELECT sourced_id, ARRAY[sourced_id] AS schools, NULL AS given_name, NULL AS family_name, name AS title, type AS role
FROM prospect_orgs

-- name: label_academic_sessions
SELECT sourced_id, NULL::text[] AS schools, NULL AS given_name, NULL AS family_name, title, type AS role
FROM prospect_academic_sessions

-- name: label_courses
SELECT sourced_id, array_remove(ARRAY[org_sourced_id], NULL) AS schools, NULL AS given_name, NULL AS family_name, title,
       NULL AS role
FROM prospect_courses

-- name: label_classes
SELECT sourced_id, schools, NULL AS given_name, NULL AS family_name, title, NULL AS role FROM prospect_classes

-- name: label_users
SELECT sourced_id, schools, given_name, family_name, NULL AS title, role FROM prospect_users

-- name: label_enrollments
SELECT one.sourced_id, array_remove(ARRAY[one.school_sourced_id], NULL) AS schools, person.given_name,
       person.family_name, class.title, one.role
FROM prospect_enrollments AS one
LEFT JOIN prospect_users AS person ON person.sourced_id = one.user_sourced_id
LEFT JOIN prospect_classes AS class ON class.sourced_id = one.class_sourced_id

-- name: label_demographics
SELECT sourced_id, schools, given_name, family_name, NULL AS title, role FROM prospect_users

-- name: note_upserts
INSERT INTO {changes} (collection, sourced_id, change, schools, given_name, family_name, title, role, fields, held)
SELECT '{collection}', staged.sourced_id, CASE WHEN held.active THEN 'changed' ELSE 'added' END,
       label.schools, label.given_name, label.family_name, label.title, label.role,
       CASE WHEN held.active THEN to_jsonb(array_remove(ARRAY[{differences}], NULL)) END,
       $2
FROM {staging} AS staged
LEFT JOIN {table} AS held ON held.integration_no = $1 AND held.sourced_id = staged.sourced_id
LEFT JOIN ({label}) AS label ON label.sourced_id = staged.sourced_id
WHERE held.sourced_id IS NULL
   OR held.origin = 'synced' AND (NOT held.active OR held.fingerprint <> staged.fingerprint)
ORDER BY staged.sourced_id;

-- name: note_difference
CASE WHEN held."{field}" IS DISTINCT FROM staged."{field}"
     THEN jsonb_build_array('{camel}', held."{field}", staged."{field}") END

-- name: note_removals
INSERT INTO {changes} (collection, sourced_id, change, reason, schools, given_name, family_name, title, role, held)
SELECT '{collection}', gone.sourced_id, 'removed', gone.reason,
       label.schools, label.given_name, label.family_name, label.title, label.role, $1
FROM {gone} AS gone
LEFT JOIN ({label}) AS label ON label.sourced_id = gone.sourced_id
WHERE gone.collection = '{collection}'
ORDER BY gone.sourced_id;

-- name: mark_waiting
UPDATE {changes} AS change SET held = true
FROM {waiting} AS waiting
WHERE change.change = 'removed' AND change.collection = waiting.collection AND change.sourced_id = waiting.sourced_id;

-- name: analyze_plan_changes
ANALYZE {changes};

-- name: count_removal_reasons
SELECT collection, reason, count(*) FROM {changes} WHERE change = 'removed' GROUP BY 1, 2 ORDER BY 1, 2;

-- name: count_changed_fields
SELECT change.collection, field.value ->> 0 AS field, count(*)
FROM {changes} AS change CROSS JOIN LATERAL jsonb_array_elements(change.fields) AS field
WHERE change.change = 'changed'
GROUP BY 1, 2
ORDER BY 1, 3 DESC, 2;

-- name: note_taken
-- What only changes hands (C8), the takeover being the reason; what changes otherwise as well was noted before.
INSERT INTO {changes} (collection, sourced_id, change, reason, schools, given_name, family_name, title, role, held)
SELECT '{collection}', taken.sourced_id, 'changed', 'taken over',
       label.schools, label.given_name, label.family_name, label.title, label.role, $1
FROM {taken} AS taken
LEFT JOIN ({label}) AS label ON label.sourced_id = taken.sourced_id
WHERE taken.collection = '{collection}'
  AND NOT EXISTS (
      SELECT FROM {changes} AS noted WHERE noted.collection = '{collection}' AND noted.sourced_id = taken.sourced_id
  )
ORDER BY taken.sourced_id;

-- name: list_plan_changes
SELECT collection, sourced_id, change, reason, held, schools, given_name, family_name, title, role, fields
FROM {changes}
WHERE ($1::text IS NULL OR collection = $1) AND ($2::text IS NULL OR change = $2)
  AND ($3::text IS NULL OR $3 = ANY (schools))
ORDER BY place;

-- name: drop_plan_changes
DROP TABLE IF EXISTS {changes};

-- name: find_plan_changes
SELECT to_regclass($1) IS NOT NULL;

-- name: now_orgs
SELECT sourced_id, ARRAY[sourced_id] AS schools, NULL AS given_name, NULL AS family_name, name AS title, type AS role
FROM orgs WHERE integration_no = $1

-- name: now_academic_sessions
SELECT sourced_id, NULL::text[] AS schools, NULL AS given_name, NULL AS family_name, title, type AS role
FROM academic_sessions WHERE integration_no = $1

-- name: now_courses
SELECT sourced_id, array_remove(ARRAY[org_sourced_id], NULL) AS schools, NULL AS given_name, NULL AS family_name, title,
       NULL AS role
FROM courses WHERE integration_no = $1

-- name: now_classes
SELECT sourced_id, ARRAY[school_sourced_id] AS schools, NULL AS given_name, NULL AS family_name, title, NULL AS role
FROM classes WHERE integration_no = $1

-- name: now_users
SELECT person.sourced_id,
       ARRAY(
           SELECT DISTINCT role.value ->> 'orgSourcedId' FROM jsonb_array_elements(person.roles) AS role ORDER BY 1
       ) AS schools,
       person.given_name, person.family_name, NULL AS title,
       (SELECT role.value ->> 'role' FROM jsonb_array_elements(person.roles) AS role
        ORDER BY role.value ->> 'roleType' = 'primary' DESC NULLS LAST LIMIT 1) AS role
FROM users AS person WHERE person.integration_no = $1

-- name: now_enrollments
SELECT one.sourced_id, array_remove(ARRAY[coalesce(one.school_sourced_id, class.school_sourced_id)], NULL) AS schools,
       person.given_name, person.family_name, class.title, one.role
FROM enrollments AS one
LEFT JOIN users AS person ON person.integration_no = $1 AND person.sourced_id = one.user_sourced_id
LEFT JOIN classes AS class ON class.integration_no = $1 AND class.sourced_id = one.class_sourced_id
WHERE one.integration_no = $1

-- name: list_applied_changes
-- What one apply changed, with what the records are called now; `$1` to `$3` are those of list_run_changes.
SELECT found.collection, found.sourced_id, found.before, found.after,
       CASE found.change WHEN 'updated' THEN 'changed' ELSE found.change END AS change, NULL AS reason, false AS held,
       label.schools, label.given_name, label.family_name, label.title, label.role
FROM ({found}) AS found
LEFT JOIN ({label}) AS label ON label.sourced_id = found.sourced_id
WHERE ($4::text IS NULL OR CASE found.change WHEN 'updated' THEN 'changed' ELSE found.change END = $4)
  AND ($5::text IS NULL OR $5 = ANY (label.schools))
ORDER BY found.sourced_id;
