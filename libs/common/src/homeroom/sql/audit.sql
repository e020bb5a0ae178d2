-- name: add_audit
INSERT INTO audit_entry (organization, product, by, action, subject, detail) VALUES ($1, $2, $3, $4, $5, $6)

-- name: list_audit
-- One page, newest first; with $1 only what concerns that organization, with $2 only what was done to that subject.
SELECT number, at, organization, product, by, action, subject, detail, hash FROM audit_entry
WHERE ($1::uuid IS NULL OR organization = $1)
  AND ($2::text IS NULL OR subject = $2)
  AND number < $3
ORDER BY number DESC
LIMIT $4

-- name: read_audit_chain
SELECT forgotten, forgotten_hash, newest, newest_hash FROM audit_chain

-- name: walk_audit
-- The next entries after $1, whose hash is $2: how far they go, and the first number that is not there or does not fit.
WITH page AS (
    SELECT entry, entry.number, entry.hash FROM audit_entry AS entry WHERE entry.number > $1 ORDER BY entry.number LIMIT $3
),
walked AS (
    SELECT number, hash, lag(number, 1, $1::bigint) OVER chain + 1 AS due,
           hash_audit(lag(hash, 1, $2::bytea) OVER chain, entry) AS expected
    FROM page
    WINDOW chain AS (ORDER BY number)
)
SELECT count(*) AS entries,
       max(number) AS number,
       (SELECT hash FROM page ORDER BY number DESC LIMIT 1) AS hash,
       min(due) FILTER (WHERE number <> due OR hash IS DISTINCT FROM expected) AS broken
FROM walked

-- name: find_audit_hash
SELECT hash FROM audit_entry WHERE number = $1

-- name: forget_audit
-- One batch of entries older than $1 seconds; how many went. See `forget_audit` of the migration.
SELECT forget_audit(make_interval(secs => $1), $2)
