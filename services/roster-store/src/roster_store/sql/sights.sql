-- name: list_sights
SELECT no, id, organization_id,
       coalesce((SELECT max(apply.no) FROM apply WHERE apply.integration_no = integration.no), 0) AS newest
FROM integration
WHERE ($1::uuid IS NULL OR organization_id = $1) AND ($2::uuid IS NULL OR id = $2)
ORDER BY no;

-- name: list_licensed_sights
SELECT integration.no, integration.id, integration.organization_id, access.schools, access.grants, access.teacher_started,
       coalesce((SELECT max(apply.no) FROM apply WHERE apply.integration_no = integration.no), 0) AS newest
FROM access JOIN integration ON integration.organization_id = access.organization_id
WHERE ($1::uuid IS NULL OR access.organization_id = $1) AND ($2::uuid IS NULL OR integration.id = $2)
  AND access.product_id = $3 AND access.live AND access.until > now()
ORDER BY integration.no;

-- name: look
-- One round trip: what is looked at, for this transaction alone.
SELECT set_config('homeroom.integration', $1::int::text, true),
       set_config('homeroom.product', $2, true),
       set_config('homeroom.schools', coalesce($3::text[]::text, ''), true),
       set_config('homeroom.teacher_started', $4, true),
       (SELECT count(set_config(name, value, true)) FROM unnest($5::text[], $6::text[]) AS granted (name, value));
