-- name: add_organization
-- A unit of work may be repeated after a commit whose answer was lost, hence the conflict clause.
INSERT INTO organization (id, name) VALUES ($1, $2)
ON CONFLICT (id) DO NOTHING

-- name: organization
SELECT * FROM organization WHERE id = $1

-- name: organizations
-- One page, oldest first; with $1 only that one.
SELECT * FROM organization
WHERE ($1::uuid IS NULL OR id = $1) AND position > $2
ORDER BY position
LIMIT $3
