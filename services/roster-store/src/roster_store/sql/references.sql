-- name: create_dangling
CREATE UNLOGGED TABLE {dangling} (
    sourced_id        text COLLATE "C" NOT NULL,
    field             text NOT NULL,
    class_sourced_id  text COLLATE "C" NOT NULL,
    school_sourced_id text COLLATE "C"
) WITH (autovacuum_enabled = false);

-- name: empty_dangling
TRUNCATE {dangling};

-- name: knows_any
SELECT EXISTS (SELECT FROM {table} WHERE integration_no = $1);

-- name: find_dangling
-- One anti join a reference, each of them a hash join on a first load; a record that lacks two things comes twice.
INSERT INTO {dangling} (sourced_id, field, class_sourced_id, school_sourced_id)
SELECT staged.sourced_id, 'user', staged.class_sourced_id, staged.school_sourced_id
FROM {staged_enrollments} AS staged
WHERE $2
  AND NOT EXISTS (SELECT FROM {staged_users} AS new WHERE new.sourced_id = staged.user_sourced_id)
  AND NOT EXISTS (
      SELECT FROM users AS held
      WHERE held.integration_no = $1 AND held.sourced_id = staged.user_sourced_id AND held.active
  )
UNION ALL
SELECT staged.sourced_id, 'user', staged.class_sourced_id, staged.school_sourced_id
FROM {staged_enrollments} AS staged
JOIN {gone} AS gone ON gone.collection = 'users' AND gone.sourced_id = staged.user_sourced_id
WHERE $2
UNION ALL
SELECT staged.sourced_id, 'class', staged.class_sourced_id, staged.school_sourced_id
FROM {staged_enrollments} AS staged
WHERE $3
  AND NOT EXISTS (SELECT FROM {staged_classes} AS new WHERE new.sourced_id = staged.class_sourced_id)
  AND NOT EXISTS (
      SELECT FROM classes AS held
      WHERE held.integration_no = $1 AND held.sourced_id = staged.class_sourced_id AND held.active
  )
UNION ALL
SELECT staged.sourced_id, 'class', staged.class_sourced_id, staged.school_sourced_id
FROM {staged_enrollments} AS staged
JOIN {gone} AS gone ON gone.collection = 'classes' AND gone.sourced_id = staged.class_sourced_id
WHERE $3
UNION ALL
SELECT staged.sourced_id, 'school', staged.class_sourced_id, staged.school_sourced_id
FROM {staged_enrollments} AS staged
WHERE $4
  AND staged.school_sourced_id IS NOT NULL
  AND NOT EXISTS (SELECT FROM {staged_orgs} AS new WHERE new.sourced_id = staged.school_sourced_id)
  AND NOT EXISTS (
      SELECT FROM orgs AS held
      WHERE held.integration_no = $1 AND held.sourced_id = staged.school_sourced_id AND held.active
  )
UNION ALL
SELECT staged.sourced_id, 'school', staged.class_sourced_id, staged.school_sourced_id
FROM {staged_enrollments} AS staged
JOIN {gone} AS gone ON gone.collection = 'orgs' AND gone.sourced_id = staged.school_sourced_id
WHERE $4;

-- name: count_dangling
SELECT count(DISTINCT sourced_id) FROM {dangling};

-- name: list_dangling
SELECT dangling.sourced_id, (array_agg(dangling.field ORDER BY dangling.field DESC))[1] AS field
FROM {dangling} AS dangling
WHERE NOT EXISTS (
    SELECT FROM enrollments AS held
    WHERE held.integration_no = $1 AND held.sourced_id = dangling.sourced_id AND held.origin = 'manual'
)
GROUP BY dangling.sourced_id
ORDER BY dangling.sourced_id
LIMIT $2;

-- name: drop_dangling
DELETE FROM {staged_enrollments} AS staged USING {dangling} AS dangling WHERE dangling.sourced_id = staged.sourced_id;

-- name: release_enrollments
-- Those made by hand go along as well: an enrollment without its class or person is none.
INSERT INTO {gone} (collection, sourced_id, reason)
SELECT 'enrollments', held.sourced_id, 'reference'
FROM enrollments AS held
WHERE held.integration_no = $1 AND held.active
  AND (held.user_sourced_id IN (SELECT sourced_id FROM {gone} WHERE collection = 'users')
       OR held.class_sourced_id IN (SELECT sourced_id FROM {gone} WHERE collection = 'classes'))
  AND NOT EXISTS (SELECT FROM {staged_enrollments} AS staged WHERE staged.sourced_id = held.sourced_id)
  AND NOT EXISTS (
      SELECT FROM {gone} AS gone WHERE gone.collection = 'enrollments' AND gone.sourced_id = held.sourced_id
  );

-- name: release_demographics
-- Synced ones go by themselves; those made by hand go with their person.
INSERT INTO {gone} (collection, sourced_id, reason)
SELECT 'demographics', held.sourced_id, 'reference'
FROM demographics AS held
WHERE held.integration_no = $1 AND held.active AND held.origin = 'manual'
  AND held.sourced_id IN (SELECT sourced_id FROM {gone} WHERE collection = 'users');

-- name: list_reused_ids
SELECT held.sourced_id
FROM {staged_users} AS staged
JOIN users AS held ON held.integration_no = $1 AND held.sourced_id = staged.sourced_id
LEFT JOIN {staged_demographics} AS told ON told.sourced_id = staged.sourced_id
LEFT JOIN demographics AS known
       ON known.integration_no = $1 AND known.sourced_id = staged.sourced_id AND known.active
WHERE held.active AND held.origin = 'synced' AND held.fingerprint <> staged.fingerprint
  AND lower(staged.given_name) <> lower(held.given_name)
  AND lower(staged.family_name) <> lower(held.family_name)
  AND (lower(staged.email) = lower(held.email)) IS NOT TRUE
  AND (lower(staged.identifier) = lower(held.identifier)) IS NOT TRUE
  AND (lower(staged.username) = lower(held.username)) IS NOT TRUE
  -- Demographics that were not staged are the ones held: the same day of birth, so the same person.
  AND (known.birth_date = CASE WHEN told.sourced_id IS NULL THEN known.birth_date ELSE told.birth_date END) IS NOT TRUE
ORDER BY held.sourced_id
LIMIT $2;
