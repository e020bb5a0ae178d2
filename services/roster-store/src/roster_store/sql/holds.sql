-- name: create_waiting
CREATE UNLOGGED TABLE {waiting} (LIKE gone_fields) WITH (autovacuum_enabled = false);

-- name: hold_all
INSERT INTO {waiting} (collection, sourced_id, reason) SELECT collection, sourced_id, reason FROM {gone};

-- name: hold_collections
INSERT INTO {waiting} (collection, sourced_id, reason)
SELECT collection, sourced_id, reason FROM {gone} AS gone
WHERE collection = ANY ($1::text[])
   OR (collection = 'demographics' AND 'users' = ANY ($1::text[])
       AND sourced_id IN (SELECT sourced_id FROM {gone} WHERE collection = 'users'));

-- name: hold_schools
-- People with their demographics; whoever is of another school as well is kept, too, and goes nowhere.
INSERT INTO {waiting} (collection, sourced_id, reason)
SELECT gone.collection, gone.sourced_id, gone.reason
FROM {gone} AS gone
WHERE NOT EXISTS (
          SELECT FROM {waiting} AS kept WHERE kept.collection = gone.collection AND kept.sourced_id = gone.sourced_id
      )
  AND (
      gone.collection = 'orgs' AND gone.sourced_id = ANY ($2::text[])
      OR gone.collection = 'courses' AND gone.sourced_id IN (
          SELECT held.sourced_id FROM courses AS held
          WHERE held.integration_no = $1 AND held.org_sourced_id = ANY ($2::text[])
      )
      OR gone.collection = 'classes' AND gone.sourced_id IN (
          SELECT held.sourced_id FROM classes AS held
          WHERE held.integration_no = $1 AND held.school_sourced_id = ANY ($2::text[])
      )
      OR gone.collection IN ('users', 'demographics') AND gone.sourced_id IN (
          SELECT held.sourced_id
          FROM {gone} AS person
          JOIN users AS held ON held.integration_no = $1 AND held.sourced_id = person.sourced_id
          WHERE person.collection = 'users' AND held.active
            AND EXISTS (
                SELECT FROM jsonb_array_elements(held.roles) AS role
                WHERE role.value ->> 'orgSourcedId' = ANY ($2::text[])
            )
      )
      OR gone.collection = 'enrollments' AND gone.sourced_id IN (
          SELECT held.sourced_id
          FROM {gone} AS left_class
          JOIN enrollments AS held ON held.integration_no = $1 AND held.sourced_id = left_class.sourced_id
          LEFT JOIN classes AS class ON class.integration_no = $1 AND class.sourced_id = held.class_sourced_id
          WHERE left_class.collection = 'enrollments'
            AND coalesce(held.school_sourced_id, class.school_sourced_id) = ANY ($2::text[])
      )
  );

-- name: hold_following
-- Who stays for now keeps their enrollments, and a class that stays keeps its students.
INSERT INTO {waiting} (collection, sourced_id, reason)
SELECT gone.collection, gone.sourced_id, gone.reason
FROM {gone} AS gone
JOIN enrollments AS held ON held.integration_no = $1 AND held.sourced_id = gone.sourced_id
WHERE gone.collection = 'enrollments'
  AND NOT EXISTS (
      SELECT FROM {waiting} AS kept WHERE kept.collection = 'enrollments' AND kept.sourced_id = gone.sourced_id
  )
  AND (held.user_sourced_id IN (SELECT sourced_id FROM {waiting} WHERE collection = 'users')
       OR held.class_sourced_id IN (SELECT sourced_id FROM {waiting} WHERE collection = 'classes'));

-- name: release_referring
-- But no enrollment stays of a person, class or school that goes (I8).
WITH leaving AS MATERIALIZED (
    SELECT collection, sourced_id FROM {gone} WHERE collection IN ('users', 'classes', 'orgs')
    EXCEPT
    SELECT collection, sourced_id FROM {waiting}
)
DELETE FROM {waiting} AS kept
USING enrollments AS held
WHERE kept.collection = 'enrollments' AND held.integration_no = $1 AND held.sourced_id = kept.sourced_id
  AND (held.user_sourced_id IN (SELECT sourced_id FROM leaving WHERE collection = 'users')
       OR held.class_sourced_id IN (SELECT sourced_id FROM leaving WHERE collection = 'classes')
       OR held.school_sourced_id IN (SELECT sourced_id FROM leaving WHERE collection = 'orgs'));

-- name: count_waiting
SELECT collection, count(*) FROM {waiting} GROUP BY collection;

-- name: part_from_waiting
DELETE FROM {gone} AS gone USING {waiting} AS kept
WHERE kept.collection = gone.collection AND kept.sourced_id = gone.sourced_id;

-- name: rename_staging
ALTER TABLE roster_staging.{staging} RENAME TO {name};

-- name: log_staging
ALTER TABLE roster_staging.{staging} SET LOGGED;

-- name: insert_hold
INSERT INTO hold (fetch_no, integration_no, run_id, plan, everything, code, expires_at, staged, rest)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: read_expiry
SELECT now() + make_interval(secs => $1);

-- name: list_open_holds
SELECT no, fetch_no, run_id, plan, rest FROM hold WHERE integration_no = $1 AND state = 'open' ORDER BY no FOR UPDATE;

-- name: lock_hold
SELECT hold.no, hold.fetch_no, hold.run_id, hold.plan, hold.everything, hold.state, hold.staged, hold.rest,
       hold.held_at, hold.expires_at <= now() AS expired, staged_fetch.terms
FROM hold JOIN staged_fetch ON staged_fetch.no = hold.fetch_no
WHERE hold.integration_no = $1 AND hold.run_id = $2
ORDER BY hold.plan = $3 DESC, hold.no DESC
LIMIT 1
FOR UPDATE OF hold;

-- name: end_hold
UPDATE hold SET state = $2, ended_at = now() WHERE no = $1;

-- name: find_forsaken_hold
SELECT no, fetch_no FROM hold
WHERE state = 'open' AND expires_at < now() - make_interval(secs => $1)
ORDER BY no LIMIT 1
FOR UPDATE SKIP LOCKED;

-- name: find_decision
SELECT outcome FROM decision WHERE id = $1;

-- name: insert_decision
INSERT INTO decision (id, integration_no, run_id, plan, action, decided_by, asked_at, outcome)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8);

-- name: hash_upserts
SELECT staged.sourced_id, staged.fingerprint, held.version, held.active
FROM {staging} AS staged
LEFT JOIN {table} AS held ON held.integration_no = $1 AND held.sourced_id = staged.sourced_id
WHERE held.sourced_id IS NULL
   OR (held.origin = 'synced' AND (NOT held.active OR held.fingerprint <> staged.fingerprint))
ORDER BY staged.sourced_id

-- name: hash_removals
SELECT gone.sourced_id, held.version
FROM {removals} AS gone
JOIN {table} AS held ON held.integration_no = $1 AND held.sourced_id = gone.sourced_id
WHERE gone.collection = $2 AND held.active AND held.origin = 'synced'
ORDER BY gone.sourced_id

-- name: forget_taken_enrollments
DELETE FROM {gone} WHERE reason = 'taken over';
