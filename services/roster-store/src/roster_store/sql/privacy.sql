-- name: of_person
-- What every statement about one person begins with.
WITH person AS (
    SELECT $1::int AS integration_no, $2::uuid AS organization_id, $3::text AS sourced_id, $4::text[] AS records,
           $5::uuid[] AS keys, $6::bigint[] AS accounts
)

-- name: find_privacy_integration
SELECT no, id, organization_id, hide_id(organization_id, $2) AS key FROM integration WHERE id = $1;

-- name: describe_audited
SELECT id, organization_id, hide_id(organization_id, $2) AS key FROM integration WHERE no = $1;

-- name: list_person_records
-- The sourcedIds and keys of what is only about them; enrollments also where they were theirs once.
SELECT 'users' AS collection, sourced_id, key FROM users WHERE integration_no = $1 AND sourced_id = $2
UNION ALL
SELECT 'demographics', sourced_id, key FROM demographics WHERE integration_no = $1 AND sourced_id = $2
UNION ALL
SELECT 'enrollments', sourced_id, key FROM enrollments WHERE integration_no = $1 AND user_sourced_id = $2;

-- name: list_person_accounts
-- Linked with them; or linked with nobody, and with their id or their address.
SELECT account.no FROM account
LEFT JOIN account_link AS link ON link.account_no = account.no
JOIN integration ON integration.no = $1
WHERE account.organization_id = integration.organization_id
  AND (link.integration_no = $1 AND link.sourced_id = $2
       OR link.account_no IS NULL AND (
           account.sourced_id = $2 AND coalesce(account.integration_id, integration.id) = integration.id
           OR normal_address(account.email) = (
               SELECT normal_address(email) FROM users WHERE integration_no = $1 AND sourced_id = $2)))
ORDER BY account.no;

-- name: forget_joined
UPDATE rostered_person SET joined_integration_no = NULL, joined_sourced_id = NULL
WHERE joined_integration_no = $1 AND joined_sourced_id = $2;

-- name: list_holding
SELECT {shown} AS row FROM {table} AS held, person WHERE {where}

-- name: count_holding
SELECT count(*) FROM {table} AS held, person WHERE {where}

-- name: forget_holding
, gone AS (DELETE FROM {table} AS held USING person WHERE {where} RETURNING 1) SELECT count(*) FROM gone

-- name: keep_person_out
INSERT INTO erased (integration_no, collection, key, erasure_id)
SELECT $1::int, 'users', hide_id($2, $3), $5::uuid
UNION ALL
SELECT $1::int, 'enrollments', hide_id($2, one), $5::uuid FROM unnest($4::text[]) AS one
ON CONFLICT DO NOTHING;

-- name: find_block
SELECT erasure_id FROM erased WHERE integration_no = $1 AND collection = 'users' AND key = $2;

-- name: blank_person
-- A person's record without anything of them. Their roles stay until products were told, for who sees what goes by them.
UPDATE users AS held
SET changed_by = $3, change_no = $4 + 1, version = version + 1, change = 'removed', active = false, fingerprint = 0,
    roles = (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'role', role ->> 'role', 'orgSourcedId', role ->> 'orgSourcedId',
            'roleType', coalesce(role ->> 'roleType', 'secondary'))), '[]')
        FROM jsonb_array_elements(roles) AS role),
    {blanks}
WHERE integration_no = $1 AND sourced_id = $2;

-- name: blank_demographics
UPDATE demographics
SET changed_by = $3, change_no = $4 + 1, version = version + 1, change = 'removed', active = false, fingerprint = 0,
    {blanks}
WHERE integration_no = $1 AND sourced_id = $2;

-- name: blank_enrollments
UPDATE enrollments AS held
SET changed_by = $3, change_no = $4 + ranked.place, version = version + 1, change = 'removed', active = false,
    fingerprint = 0, {blanks}
FROM (
    SELECT sourced_id, row_number() OVER (ORDER BY sourced_id)::int AS place
    FROM enrollments WHERE integration_no = $1 AND user_sourced_id = $2
) AS ranked
WHERE held.integration_no = $1 AND held.sourced_id = ranked.sourced_id;

-- name: forget_agent
-- Others who name them. What the district sends of those is the same as before, so their fingerprints stay.
UPDATE users AS held
SET changed_by = $3, change_no = $4 + ranked.place, version = version + 1,
    change = CASE WHEN held.active THEN 'updated' ELSE 'removed' END::change,
    agent_sourced_ids = array_remove(held.agent_sourced_ids, $2)
FROM (
    SELECT sourced_id, row_number() OVER (ORDER BY sourced_id)::int AS place
    FROM users WHERE integration_no = $1 AND $2 = ANY (agent_sourced_ids) AND sourced_id <> $2
) AS ranked
WHERE held.integration_no = $1 AND held.sourced_id = ranked.sourced_id;

-- name: forget_past_agent
UPDATE history
SET before = jsonb_set(before, '{agent_sourced_ids}', (before -> 'agent_sourced_ids') - $2)
WHERE integration_no = $1 AND collection = 'users' AND sourced_id <> $2 AND before -> 'agent_sourced_ids' ? $2;

-- name: forget_starter
UPDATE activation SET by = NULL WHERE integration_no = $1 AND by = $2;

-- name: forget_step_detail
UPDATE apply SET detail = detail - 'by' || CASE WHEN detail ->> 'user' = $2 THEN '{"user": ""}' ELSE '{}' END::jsonb
WHERE integration_no = $1 AND kind IN ('signed-in', 'class-started') AND $2 IN (detail ->> 'user', detail ->> 'by');

-- name: list_privacy_staging
SELECT no FROM staged_fetch WHERE integration_no = $1 AND state = 'staging';

-- name: list_kept_plans
-- Of the organization, as reports name people of its other rosters, too.
SELECT plan_report.fetch_no, plan_report.report::text AS report
FROM plan_report JOIN integration ON integration.no = plan_report.integration_no
WHERE integration.organization_id = $1 AND plan_report.report IS NOT NULL;

-- name: plan_names_person
SELECT EXISTS (
    SELECT FROM {changes} AS change
    WHERE change.sourced_id = ANY ($1::text[]) OR strpos(change.fields::text, $2) > 0
);

-- name: list_told_outcomes
SELECT no, outcome FROM staged_fetch
WHERE integration_no = $1 AND outcome IS NOT NULL AND position($2::bytea IN outcome) > 0;

-- name: clean_outcome
UPDATE staged_fetch SET outcome = $2 WHERE no = $1;

-- name: list_told_decisions
SELECT id, outcome FROM decision WHERE integration_no = $1 AND position($2::bytea IN outcome) > 0;

-- name: clean_decision
UPDATE decision SET outcome = $2 WHERE id = $1;

-- name: list_told_holds
SELECT no, rest FROM hold WHERE integration_no = $1 AND strpos(rest::text, $2) > 0;

-- name: clean_hold
UPDATE hold SET rest = $2 WHERE no = $1;

-- name: add_erasure
INSERT INTO erasure (id, integration_no, key, apply_no, reason, by, counts, outbox) VALUES ($1, $2, $3, $4, $5, $6, $7, $8);

-- name: find_erasure
SELECT erasure.id, integration.id AS integration_id, integration.organization_id, erasure.reason, erasure.by, erasure.at,
       erasure.counts, erasure.told_at, erasure.cleared_at, erased.since AS blocked_since
FROM erasure
JOIN integration ON integration.no = erasure.integration_no
LEFT JOIN erased ON erased.erasure_id = erasure.id AND erased.collection = 'users'
WHERE erasure.id = $1 AND ($2::uuid IS NULL OR integration.organization_id = $2);

-- name: lift_block
DELETE FROM erased USING erasure, integration
WHERE erased.erasure_id = $1 AND erasure.id = $1 AND integration.no = erasure.integration_no
  AND ($2::uuid IS NULL OR integration.organization_id = $2)
RETURNING integration.organization_id;

-- name: next_erasure
SELECT erasure.id, integration.id AS integration_id, integration.organization_id, erasure.at, erasure.outbox
FROM erasure JOIN integration ON integration.no = erasure.integration_no
WHERE erasure.outbox IS NOT NULL
ORDER BY erasure.at
LIMIT 1
FOR UPDATE OF erasure SKIP LOCKED;

-- name: erasure_told
UPDATE erasure SET outbox = NULL, told_at = now() WHERE id = $1;

-- name: inherit_erased
-- Who was erased from a roster that is taken over stays out of the one that takes it.
INSERT INTO erased (integration_no, collection, key, erasure_id, since)
SELECT $1, erased.collection, erased.key, erased.erasure_id, erased.since
FROM erased JOIN integration ON integration.no = erased.integration_no
WHERE integration.id = $2
ON CONFLICT DO NOTHING;

-- name: knows_erased
SELECT EXISTS (SELECT FROM erased WHERE integration_no = $1);

-- name: leave_out_erased
WITH gone AS (
    DELETE FROM {staging} AS staged USING erased
    WHERE erased.integration_no = $1 AND erased.collection = 'users' AND erased.key = hide_id($2, staged.{column})
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: leave_out_erased_agents
UPDATE {staging} AS staged
SET agent_sourced_ids = ARRAY(
    SELECT agent FROM unnest(staged.agent_sourced_ids) WITH ORDINALITY AS named (agent, place)
    WHERE NOT EXISTS (
        SELECT FROM erased WHERE integration_no = $1 AND collection = 'users' AND key = hide_id($2, agent)
    )
    ORDER BY place
)
WHERE EXISTS (
    SELECT FROM unnest(staged.agent_sourced_ids) AS agent
    JOIN erased ON erased.integration_no = $1 AND erased.collection = 'users' AND erased.key = hide_id($2, agent)
);

-- name: find_erased_ids
SELECT given.collection, given.sourced_id
FROM unnest($3::text[], $4::text[]) AS given (collection, sourced_id)
JOIN erased ON erased.integration_no = $1 AND erased.collection = given.collection
    AND erased.key = hide_id($2, given.sourced_id);

-- ── search ───────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: list_searched
-- Every column in which a text may stand, of tables this role may read.
SELECT space.nspname AS schema, class.relname AS table, field.attname AS column,
       field.atttypid = 'bytea'::regtype AS binary
FROM pg_class AS class
JOIN pg_namespace AS space ON space.oid = class.relnamespace
JOIN pg_attribute AS field ON field.attrelid = class.oid AND field.attnum > 0 AND NOT field.attisdropped
WHERE class.relkind = 'r' AND space.nspname = ANY ($1::text[])
  AND field.atttypid = ANY (ARRAY['text', 'text[]', 'varchar', 'jsonb', 'json', 'bytea', 'name']::regtype[])
  AND has_table_privilege(class.oid, 'SELECT')
ORDER BY 1, 2, field.attnum;

-- name: list_search_schemas
SELECT nspname FROM pg_namespace
WHERE nspname = ANY (ARRAY['roster', 'roster_staging', 'scheduler', 'sso', 'bus']) AND has_schema_privilege(oid, 'USAGE')
ORDER BY 1;

-- name: list_fetches_with_tables
-- Fetches of an integration of which something is staged or was planned.
SELECT no FROM staged_fetch
WHERE integration_no = $1 AND EXISTS (
    SELECT FROM pg_class WHERE relnamespace = 'roster_staging'::regnamespace
      AND (starts_with(relname, 'f' || staged_fetch.no || '_') OR relname = 'p' || staged_fetch.no || '_changes'))
ORDER BY no;

-- name: list_staged_of_person
SELECT to_jsonb(staged) AS row FROM {staging} AS staged WHERE staged.{column} = $1

-- name: list_planned_of_person
SELECT to_jsonb(change) AS row FROM {changes} AS change WHERE change.sourced_id = ANY ($1::text[])

-- name: read_moment
SELECT now()
