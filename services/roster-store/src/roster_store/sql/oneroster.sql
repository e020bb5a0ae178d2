-- name: count_records
SELECT count(*) FROM {table} AS held JOIN integration ON integration.no = held.integration_no
WHERE held.active AND ($1::uuid IS NULL OR integration.organization_id = $1)
  AND ($2::uuid IS NULL OR integration.id = $2) {narrowing};

-- name: list_records
SELECT {columns}, apply.applied_at
FROM {table} AS held
JOIN integration ON integration.no = held.integration_no
JOIN apply ON apply.no = held.changed_by
WHERE held.active AND ($1::uuid IS NULL OR integration.organization_id = $1)
  AND ($2::uuid IS NULL OR integration.id = $2) {narrowing}
ORDER BY held.integration_no, held.sourced_id
LIMIT $3 OFFSET $4;

-- name: find_record
SELECT {columns}, apply.applied_at
FROM {table} AS held
JOIN integration ON integration.no = held.integration_no
JOIN apply ON apply.no = held.changed_by
WHERE held.active AND ($1::uuid IS NULL OR integration.organization_id = $1)
  AND ($2::uuid IS NULL OR integration.id = $2) {narrowing}
  AND held.sourced_id = $3
ORDER BY held.integration_no
LIMIT 1;
