-- name: list_applies
-- Steps for whoever sees everything.
SELECT apply.no, apply.kind, apply.run_id, apply.applied_at, apply.segments, apply.counts, apply.detail,
       integration.no AS integration_no, integration.id AS integration_id, integration.organization_id
FROM apply JOIN integration ON integration.no = apply.integration_no
WHERE apply.no >= $1 AND apply.product_id IS NULL AND apply.xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY apply.no
LIMIT $2;

-- name: list_applies_of
-- Steps of an organization's integrations, of one integration, or both.
SELECT step.no, step.kind, step.run_id, step.applied_at, step.segments, step.counts, step.detail,
       integration.no AS integration_no, integration.id AS integration_id, integration.organization_id
FROM integration
CROSS JOIN LATERAL (
    SELECT * FROM apply
    WHERE apply.integration_no = integration.no AND apply.product_id IS NULL AND apply.no >= $1
      AND apply.xid < pg_snapshot_xmin(pg_current_snapshot())
    ORDER BY apply.no
    LIMIT $2
) AS step
WHERE ($3::uuid IS NULL OR integration.organization_id = $3) AND ($4::uuid IS NULL OR integration.id = $4)
ORDER BY step.no
LIMIT $2;

-- name: list_product_steps
-- Steps of a product's feed: everybody's since its view of an integration began, and its own. What it may see stands
-- beside each, read at the same moment: a view that began anew must not be missed, nor a license that ended.
WITH mine AS MATERIALIZED (
    SELECT integration.no AS integration_no, integration.id AS integration_id, integration.organization_id,
           beginning.apply_no AS begins, coalesce(access.live, false) AS live, access.until <= now() AS undecided,
           access.schools, access.grants, access.teacher_started
    FROM beginning
    JOIN integration ON integration.no = beginning.integration_no
    LEFT JOIN access ON access.product_id = beginning.product_id AND access.organization_id = integration.organization_id
    WHERE beginning.product_id = $5
      AND ($3::uuid IS NULL OR integration.organization_id = $3) AND ($4::uuid IS NULL OR integration.id = $4)
)
SELECT step.no, step.kind, step.run_id, step.applied_at, step.segments, step.counts, step.detail, mine.*
FROM mine
CROSS JOIN LATERAL (
    SELECT * FROM apply
    WHERE apply.integration_no = mine.integration_no AND apply.product_id IS NULL
      AND apply.no >= greatest($1, mine.begins) AND apply.xid < pg_snapshot_xmin(pg_current_snapshot())
    ORDER BY apply.no
    LIMIT $2
) AS step
WHERE mine.live
UNION ALL
SELECT step.no, step.kind, step.run_id, step.applied_at, step.segments, step.counts, step.detail, mine.*
FROM (
    SELECT apply.* FROM apply JOIN mine ON mine.integration_no = apply.integration_no
    WHERE apply.product_id = $5 AND apply.no >= greatest($1, mine.begins)
      AND apply.xid < pg_snapshot_xmin(pg_current_snapshot())
    ORDER BY apply.no
    LIMIT $2
) AS step
JOIN mine USING (integration_no)
ORDER BY no
LIMIT $2;

-- name: find_newest_step
SELECT no FROM apply WHERE xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY no DESC LIMIT 1;

-- name: is_past_horizon
-- Whether a reader that has everything up to step $1 may miss removals that are not kept any more.
SELECT EXISTS (
    SELECT FROM feed_horizon AS horizon JOIN integration ON integration.no = horizon.integration_no
    WHERE horizon.apply_no > $1
      AND ($2::uuid IS NULL OR integration.organization_id = $2) AND ($3::uuid IS NULL OR integration.id = $3)
);

-- name: is_past_product_horizon
-- The same for a product; where its view begins anew after that, nothing is missed.
SELECT EXISTS (
    SELECT FROM beginning
    JOIN feed_horizon AS horizon ON horizon.integration_no = beginning.integration_no AND horizon.apply_no > $1
    JOIN integration ON integration.no = beginning.integration_no
    JOIN access ON access.product_id = beginning.product_id AND access.organization_id = integration.organization_id
    WHERE beginning.product_id = $4 AND beginning.apply_no <= $1 AND access.live
      AND ($2::uuid IS NULL OR integration.organization_id = $2) AND ($3::uuid IS NULL OR integration.id = $3)
);

-- name: list_span
-- What one step changed of a collection, from a place to a place. What woke up later is told there; unless it is gone,
-- as who saw it for another reason is told here.
SELECT told_by, told_no, version, change, {columns}
FROM roster_served.{table}
WHERE held_by = $1 AND held_no BETWEEN $2 AND $3 AND told_by = $1 AND (changed_by = $1 OR NOT active)
ORDER BY held_by, held_no
LIMIT $4;

-- name: list_spans
-- The same of several steps, whose places are few.
SELECT changed.*
FROM unnest($1::bigint[], $2::int[], $3::int[]) AS span (step, first, last)
CROSS JOIN LATERAL (
    SELECT told_by, told_no, version, change, {columns}
    FROM roster_served.{table}
    WHERE held_by = span.step AND held_no BETWEEN span.first AND span.last AND told_by = span.step
      AND (changed_by = span.step OR NOT active)
) AS changed;

-- name: list_departed
-- Records that hid themselves by their change: only their ids are told.
SELECT span.step AS told_by, gone.change_no AS told_no, gone.version, gone.sourced_id
FROM unnest($1::bigint[], $2::int[], $3::int[]) AS span (step, first, last)
CROSS JOIN LATERAL roster_served.departed_{table}(span.step, span.first, span.last) AS gone
ORDER BY span.step, gone.change_no;

-- name: list_moved_places
-- Records that came to belong to other schools by a step, from a place to a place.
SELECT moved.collection, moved.sourced_id, moved.change_no
FROM unnest($1::bigint[], $2::int[], $3::int[]) AS span (step, first, last)
CROSS JOIN LATERAL (
    SELECT collection, sourced_id, change_no FROM belonging
    WHERE changed_by = span.step AND change_no BETWEEN span.first AND span.last
    ORDER BY change_no
    LIMIT $4
) AS moved
ORDER BY span.step, moved.change_no
LIMIT $4;

-- name: list_moved
-- Of some records those that one of the steps told only by their schools.
SELECT told_by, told_no, version, change, {columns}
FROM roster_served.{table}
WHERE sourced_id = ANY ($1) AND told_by = ANY ($2::bigint[]) AND held_by <> told_by AND (changed_by = told_by OR NOT active);

-- name: list_seen
-- Everything that is seen of a collection, in the order of the sourcedIds.
SELECT version, {columns}
FROM roster_served.{table}
WHERE active AND sourced_id > $1
ORDER BY integration_no, sourced_id
LIMIT $2;

-- name: list_woken
-- What of a collection came to be seen by some steps; of the first of them only what stands after a sourcedId.
SELECT changed_by, version, {columns}
FROM roster_served.{table}
WHERE active AND {naming} = ANY ($1) AND changed_by = ANY ($2::bigint[]) AND (changed_by <> $3 OR sourced_id > $4)
ORDER BY changed_by, sourced_id
LIMIT $5;

-- name: read_in_order
-- What is read page by page is read along an index. The planner can't know how little the rules of the views leave out,
-- and would rather sort all that is left of a district for each page.
SELECT set_config(name, 'off', true)
FROM unnest(ARRAY['enable_sort', 'enable_seqscan', 'enable_bitmapscan', 'enable_hashjoin', 'enable_mergejoin']) AS name;

-- name: read_relay
INSERT INTO relay (name) VALUES ($1) ON CONFLICT (name) DO UPDATE SET name = excluded.name
RETURNING apply_no, change_no;

-- name: move_relay
UPDATE relay SET apply_no = $2, change_no = $3 WHERE name = $1;

-- name: lock_relay
SELECT pg_try_advisory_lock(hashtextextended('roster.relay.' || $1, 0));
