-- name: insert_step
INSERT INTO apply (no, xid, integration_no, kind, product_id, detail, segments, counts, applied_at)
VALUES ($1, $2::text::xid8, $3, $4, $5, $6, $7, $8, now());
