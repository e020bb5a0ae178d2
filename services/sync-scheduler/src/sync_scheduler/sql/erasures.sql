-- name: forget_in_runs
-- Runs of an integration without what they say of these records.
UPDATE run
SET issues = (
        SELECT coalesce(jsonb_agg(issue ORDER BY place), '[]')
        FROM jsonb_array_elements(issues) WITH ORDINALITY AS named (issue, place)
        WHERE (issue ->> 'sourcedId' = ANY ($2::text[])) IS NOT TRUE),
    teacher_sourced_id = CASE WHEN teacher_sourced_id = ANY ($2::text[]) THEN NULL ELSE teacher_sourced_id END
WHERE integration = $1 AND (
    teacher_sourced_id = ANY ($2::text[])
    OR EXISTS (SELECT FROM jsonb_array_elements(issues) AS issue WHERE issue ->> 'sourcedId' = ANY ($2::text[])))

-- name: remember_erased
INSERT INTO erased_record (integration, key) SELECT id, key FROM integration, unnest($2::bytea[]) AS key
WHERE id = $1
ON CONFLICT DO NOTHING

-- name: find_erased
-- The integration of a run, and who was erased from it; nothing where nobody was.
SELECT erased.integration, array_agg(erased.key) AS keys
FROM run JOIN erased_record AS erased ON erased.integration = run.integration
WHERE run.id = $1
GROUP BY erased.integration

-- name: forget_run_issues
-- What runs of long ago found; that they were, how they ended and their counts stay.
UPDATE run SET issues = '[]', teacher_sourced_id = NULL
WHERE id IN (
    SELECT id FROM run
    WHERE (issues <> '[]' OR teacher_sourced_id IS NOT NULL) AND finished_at < now() - $1::interval
    ORDER BY finished_at
    LIMIT $2
    FOR NO KEY UPDATE SKIP LOCKED
)

-- name: forget_entries
-- The story of such runs, oldest first.
DELETE FROM run_entry
WHERE id IN (
    SELECT id FROM (SELECT id, at FROM run_entry ORDER BY id LIMIT $2) AS oldest WHERE at < now() - $1::interval
)
