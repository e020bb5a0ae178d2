-- name: keep_organization
INSERT INTO organization (id, name) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET name = excluded.name;

-- name: keep_product
INSERT INTO product (id, name, classes, unmatched) VALUES ($1, $2, $3, $4)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, classes = excluded.classes, unmatched = excluded.unmatched;

-- name: keep_license
INSERT INTO license (id, product_id, organization_id, schools, grants, valid_from, valid_until, revoked_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (id) DO UPDATE
SET schools = excluded.schools, grants = excluded.grants, valid_from = excluded.valid_from,
    valid_until = excluded.valid_until, revoked_at = excluded.revoked_at;

-- name: doubt_access
-- What was decided is looked at again; what is seen meanwhile stays as it is.
INSERT INTO access (product_id, organization_id, look_at) VALUES ($1, $2, now())
ON CONFLICT (product_id, organization_id) DO UPDATE SET look_at = now();

-- name: doubt_product
UPDATE access SET look_at = now() WHERE product_id = $1;

-- name: list_doubtful_access
SELECT product_id, organization_id FROM access WHERE look_at <= now() ORDER BY look_at LIMIT 1000;

-- name: lock_access
SELECT live, schools, grants, teacher_started, now() AS now FROM access
WHERE product_id = $1 AND organization_id = $2
FOR UPDATE;

-- name: list_licenses
SELECT id, product_id, organization_id, schools, grants, valid_from, valid_until, revoked_at
FROM license WHERE product_id = $1 AND organization_id = $2;

-- name: find_product
SELECT name, classes, unmatched FROM product WHERE id = $1;

-- name: decide_access
-- What is past `until` counts as nothing until it is decided again.
UPDATE access
SET live = $3, schools = $4, grants = $5, teacher_started = $6,
    until = CASE WHEN $3 THEN coalesce($7::timestamptz, 'infinity') ELSE '-infinity' END,
    look_at = coalesce($7::timestamptz, 'infinity'),
    revision = revision + $8::boolean::int,
    since = CASE WHEN $8 THEN now() ELSE since END
WHERE product_id = $1 AND organization_id = $2;

-- name: list_due_steps
-- Products that were not told yet of what they see of an integration. Who never saw anything is not told that it ends.
SELECT access.product_id, integration.id, integration.no AS integration_no, access.schools IS NOT NULL AS limited
FROM access
JOIN integration ON integration.organization_id = access.organization_id
LEFT JOIN beginning ON beginning.product_id = access.product_id AND beginning.integration_no = integration.no
WHERE beginning.revision IS DISTINCT FROM access.revision AND (access.live OR beginning.revision IS NOT NULL)
ORDER BY access.product_id, integration.no
LIMIT $1;

-- name: find_due_step
SELECT access.live, access.schools, access.grants, access.revision
FROM access
JOIN integration ON integration.organization_id = access.organization_id AND integration.id = $2
LEFT JOIN beginning ON beginning.product_id = access.product_id AND beginning.integration_no = integration.no
WHERE access.product_id = $1 AND beginning.revision IS DISTINCT FROM access.revision
  AND (access.live OR beginning.revision IS NOT NULL)
FOR SHARE OF access;

-- name: begin_view
INSERT INTO beginning (product_id, integration_no, apply_no, revision) VALUES ($1, $2, $3, $4)
ON CONFLICT (product_id, integration_no) DO UPDATE SET apply_no = excluded.apply_no, revision = excluded.revision;

-- name: list_unmatched_access
SELECT product_id, organization_id, revision FROM access WHERE matched < revision
ORDER BY product_id, organization_id LIMIT 1000;

-- name: note_matched_access
UPDATE access SET matched = $3 WHERE product_id = $1 AND organization_id = $2 AND matched < $3;
