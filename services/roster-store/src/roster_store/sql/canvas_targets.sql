-- name: insert_canvas_target
INSERT INTO canvas_target
    (id, product_id, organization_id, integration_no, integration_id, base_url, account_id, sealed_token, options, mode,
     change_threshold, automatic, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13);

-- name: list_canvas_targets
-- Those of a product, or those that are no product's; with $2 only those of that organization.
SELECT * FROM canvas_target
WHERE product_id IS NOT DISTINCT FROM $1
  AND ($2::uuid IS NULL OR organization_id = $2)
  AND ($3::uuid IS NULL OR id = $3)
ORDER BY created_at, id
LIMIT 500;

-- name: count_canvas_targets
SELECT count(*) FROM canvas_target
WHERE product_id IS NOT DISTINCT FROM $1 AND organization_id = $2;

-- name: update_canvas_target
-- With another generation nothing is known of what Canvas holds.
UPDATE canvas_target SET
    base_url = $2, account_id = $3, sealed_token = $4, options = $5, mode = $6, change_threshold = $7, automatic = $8,
    generation = generation + $9::boolean::int,
    counts = CASE WHEN $9 THEN NULL ELSE counts END,
    held_code = CASE WHEN $9 OR $10 THEN NULL ELSE held_code END,
    held_counts = CASE WHEN $9 OR $10 THEN NULL ELSE held_counts END
WHERE id = $1;

-- name: delete_canvas_target
DELETE FROM canvas_target WHERE id = $1;

-- name: lock_canvas_target
SELECT * FROM canvas_target WHERE id = $1 FOR UPDATE;

-- name: ask_canvas_test
UPDATE canvas_target SET test_asked = test_asked + 1, test_due = true WHERE id = $1 RETURNING test_asked;

-- name: find_canvas_test
SELECT test_answered, test_code, test_detail FROM canvas_target WHERE id = $1;

-- name: claim_canvas_test
UPDATE canvas_target SET test_due = false
WHERE id = (SELECT id FROM canvas_target WHERE test_due ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING *;

-- name: answer_canvas_test
UPDATE canvas_target SET test_answered = greatest(test_answered, $2), test_code = $3, test_detail = $4 WHERE id = $1;
