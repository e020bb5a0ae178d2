-- name: list_unsearchable
-- Integrations whose newest steps the search does not know of yet, of any (null) or one.
SELECT integration.no
FROM integration LEFT JOIN search_progress AS known ON known.integration_no = integration.no
WHERE ($1::int IS NULL OR integration.no = $1)
  AND EXISTS (
      SELECT FROM apply
      WHERE apply.integration_no = integration.no AND apply.no > coalesce(known.through, 0)
        AND apply.no <> ALL (coalesce(known.beyond, ARRAY[]::bigint[])) AND apply.segments <> '[]'
  )
ORDER BY integration.no
LIMIT $2;

-- name: lock_search
SELECT pg_try_advisory_lock(hashtextextended('roster.search.' || $1::int, 0));

-- name: unlock_search
SELECT pg_advisory_unlock(hashtextextended('roster.search.' || $1::int, 0));

-- name: read_search_progress
SELECT through, beyond FROM search_progress WHERE integration_no = $1;

-- name: list_search_steps
-- The steps that are not known yet; `settled` where none before it can still be on its way.
SELECT no, xid < pg_snapshot_xmin(pg_current_snapshot()) AS settled
FROM apply WHERE integration_no = $1 AND no > $2
ORDER BY no;

-- name: keep_search_progress
INSERT INTO search_progress (integration_no, through, beyond) VALUES ($1, $2, $3)
ON CONFLICT (integration_no) DO UPDATE SET through = excluded.through, beyond = excluded.beyond;

-- name: list_search_rows
-- Some of the rows a step changed.
SELECT change_no, sourced_id FROM {table}
WHERE changed_by = $2 AND change_no > $3 AND integration_no = $1
ORDER BY change_no LIMIT $4;

-- name: list_all_search_rows
SELECT sourced_id FROM {table}
WHERE integration_no = $1 AND sourced_id > $2
ORDER BY sourced_id LIMIT $3;

-- name: forget_search_texts
-- Also those another integration left behind that had the records before.
DELETE FROM search_text AS known
WHERE known.key = ANY ($2::uuid[]) AND known.collection = $3
  AND (known.integration_no = $1 OR NOT EXISTS (
      SELECT FROM {table} AS held
      WHERE held.integration_no = known.integration_no AND held.sourced_id = known.sourced_id AND held.active
  ));

-- name: keep_search_texts
INSERT INTO search_text (integration_no, collection, key, sourced_id, field_group, text)
SELECT DISTINCT held.integration_no, '{collection}', held.key, held.sourced_id, found.field_group, left(found.text, 200)
FROM {table} AS held
CROSS JOIN LATERAL ({texts}) AS found (field_group, text)
WHERE held.integration_no = $1 AND held.sourced_id = ANY ($2::text[]) AND held.active AND found.text <> '';

-- name: texts_of_users
SELECT 'names', array_to_string(name.words[first:] || name.words[:first - 1], ' ')
FROM (
    SELECT string_to_array(fold_words(concat_ws(' ', held.given_name, held.middle_name, held.family_name)), ' ') AS words
    UNION
    SELECT string_to_array(fold_words(concat_ws(' ', held.given_name, held.family_name)), ' ')
    UNION
    SELECT string_to_array(fold_words(concat_ws(' ', coalesce(held.preferred_first_name, held.given_name),
                                                coalesce(held.preferred_last_name, held.family_name))), ' ')
) AS name
CROSS JOIN LATERAL generate_series(1, least(cardinality(name.words), 8)) AS first
UNION ALL
SELECT 'identifiers', fold_plain(identifier)
FROM unnest(ARRAY[held.identifier, held.user_master_identifier]) AS identifier
UNION ALL
SELECT 'identifiers', fold_plain(other ->> 'identifier') FROM jsonb_array_elements(held.user_ids) AS other
UNION ALL
SELECT CASE WHEN position('@' IN held.username) = 0 THEN 'identifiers' ELSE 'addresses' END, fold_plain(held.username)
UNION ALL
SELECT 'contacts', fold_plain(held.email)

-- name: texts_of_classes
SELECT 'names', array_to_string(title.words[first:] || title.words[:first - 1], ' ')
FROM (SELECT string_to_array(fold_words(held.title), ' ') AS words) AS title
CROSS JOIN LATERAL generate_series(1, least(cardinality(title.words), 8)) AS first
UNION ALL
SELECT 'names', fold_plain(held.class_code)

-- name: texts_of_orgs
SELECT 'names', array_to_string(title.words[first:] || title.words[:first - 1], ' ')
FROM (SELECT string_to_array(fold_words(held.name), ' ') AS words) AS title
CROSS JOIN LATERAL generate_series(1, least(cardinality(title.words), 8)) AS first
UNION ALL
SELECT 'names', fold_plain(held.identifier)

-- name: fold_query
-- A question in the two forms texts have, and its longest word with the others.
SELECT fold_plain($1) AS plain, fold_words($1) AS words;

-- name: find_texts
-- Those that begin with the question come first, whole words before parts of one; then those that hold all its words.
-- The comparisons are ones Postgres knows to leak nothing, so they reach the index below the view.
SELECT {columns}, found.rank
FROM (
    SELECT sourced_id, min(rank) AS rank, min(length(text)) AS length
    FROM (
        -- all words of the question, whichever comes first
        SELECT sourced_id, text,
               CASE WHEN text = $2 OR starts_with(text, $2 || ' ') THEN 0 WHEN starts_with(text, $2) THEN 1 ELSE 2 END AS rank
        FROM roster_served.search_text
        WHERE collection = $1 AND $2 <> '' AND text >= $4 AND text < $4 || U&'\+10FFFF'
          AND NOT EXISTS (SELECT FROM unnest($5::text[]) AS word WHERE position(' ' || word IN ' ' || text) = 0)
        UNION ALL
        -- several words as they stand
        SELECT sourced_id, text, CASE WHEN text = $2 OR starts_with(text, $2 || ' ') THEN 0 ELSE 1 END
        FROM roster_served.search_text
        WHERE collection = $1 AND cardinality($5::text[]) > 0 AND text >= $2 AND text < $2 || U&'\+10FFFF'
        UNION ALL
        -- an identifier or address
        SELECT sourced_id, text, CASE WHEN text = $3 THEN 0 ELSE 1 END
        FROM roster_served.search_text
        WHERE collection = $1 AND $3 NOT IN ('', $2) AND text >= $3 AND text < $3 || U&'\+10FFFF'
    ) AS text
    GROUP BY sourced_id
    ORDER BY rank, length, sourced_id
) AS found
CROSS JOIN LATERAL (
    SELECT * FROM roster_served.{table} AS seen WHERE seen.sourced_id = found.sourced_id AND seen.active {narrowing} OFFSET 0
) AS held
ORDER BY found.rank, found.length, found.sourced_id
LIMIT $6;
