-- name: add_audit
INSERT INTO audit_entry (organization, by, action, subject, detail) VALUES ($1, $2, $3, $4, $5)

-- name: audit
-- One page, newest first; with $1 only what concerns that organization, with $2 only what was done to that subject.
SELECT * FROM audit_entry
WHERE ($1::uuid IS NULL OR organization = $1)
    AND ($2::text IS NULL OR subject = $2)
    AND position < $3
ORDER BY position DESC
LIMIT $4
