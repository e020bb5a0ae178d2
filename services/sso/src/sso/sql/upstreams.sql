-- name: find_upstream
SELECT * FROM upstream WHERE id = $1 AND deleted_at IS NULL
