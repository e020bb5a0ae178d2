-- name: list_applies
SELECT apply.no, apply.integration_no, integration.id AS integration_id, apply.run_id, apply.applied_at,
       apply.segments, apply.counts
FROM apply JOIN integration ON integration.no = apply.integration_no
WHERE apply.no >= $1
  AND apply.xid < pg_snapshot_xmin(pg_current_snapshot())
  AND ($2::uuid IS NULL OR integration.id = $2)
  AND ($3::uuid IS NULL OR integration.organization_id = $3)
ORDER BY apply.no
LIMIT $4;

-- name: list_changes
SELECT change_no, version, change, {columns}
FROM {table}
WHERE changed_by = $1 AND change_no BETWEEN $2 AND $3
ORDER BY change_no
LIMIT $4;

-- name: read_relay
INSERT INTO relay (name) VALUES ($1) ON CONFLICT (name) DO UPDATE SET name = excluded.name
RETURNING apply_no, change_no;

-- name: move_relay
UPDATE relay SET apply_no = $2, change_no = $3 WHERE name = $1;

-- name: lock_relay
SELECT pg_try_advisory_lock(hashtextextended('roster.relay.' || $1, 0));
