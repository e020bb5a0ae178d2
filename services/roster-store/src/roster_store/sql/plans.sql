-- name: describe_integration
SELECT id, organization_id, provider FROM integration WHERE no = $1;

-- name: name_schools
SELECT sourced_id, name FROM prospect_orgs WHERE sourced_id = ANY ($1::text[]);

-- name: keep_report
INSERT INTO plan_report AS kept (fetch_no, integration_no, run_id, plan, report) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (fetch_no) DO UPDATE SET plan = excluded.plan, report = excluded.report, made_at = excluded.made_at;

-- name: find_report
SELECT plan_report.fetch_no, plan_report.plan, plan_report.made_at, plan_report.report, integration.id AS integration_id
FROM plan_report JOIN integration ON integration.no = plan_report.integration_no
WHERE plan_report.run_id = $1 AND ($2::uuid IS NULL OR integration.organization_id = $2)
ORDER BY plan_report.fetch_no DESC
LIMIT 1;

-- name: find_applies
SELECT apply.no, apply.integration_no, apply.no <= coalesce(history_horizon.apply_no, 0) AS forgotten
FROM apply
JOIN integration ON integration.no = apply.integration_no
LEFT JOIN history_horizon ON history_horizon.integration_no = apply.integration_no
WHERE apply.run_id = $1 AND ($2::uuid IS NULL OR integration.organization_id = $2)
ORDER BY apply.no;

-- name: find_unchanged
SELECT EXISTS (
    SELECT FROM staged_fetch JOIN integration ON integration.no = staged_fetch.integration_no
    WHERE staged_fetch.run_id = $1 AND staged_fetch.state = 'applied'
      AND ($2::uuid IS NULL OR integration.organization_id = $2)
);

-- name: list_old_reports
-- What is held until somebody decides is not forgotten before.
SELECT fetch_no FROM plan_report
WHERE report IS NOT NULL AND made_at < now() - make_interval(secs => $1)
  AND NOT EXISTS (SELECT FROM hold WHERE hold.fetch_no = plan_report.fetch_no AND hold.state = 'open')
ORDER BY made_at
LIMIT $2;

-- name: forget_report
UPDATE plan_report SET report = NULL WHERE fetch_no = $1;
