-- name: find_linked_account
SELECT no, id, product_id, organization_id, external_id FROM account
WHERE product_id = $1 AND organization_id = $2 AND deleted_at IS NULL
  AND ($3::uuid IS NULL OR id = $3) AND ($4::text IS NULL OR external_id = $4);

-- name: find_represented
-- Who somebody is: of Google Classroom perhaps somebody of the SIS.
SELECT coalesce(joined_integration_no, integration_no) AS integration_no, coalesce(joined_sourced_id, sourced_id) AS sourced_id
FROM rostered_person WHERE integration_no = $1 AND sourced_id = $2;

-- name: find_link_of_account
SELECT integration_no, sourced_id, how FROM account_link WHERE account_no = $1;

-- name: find_link_of_person
SELECT link.account_no, account.id, link.how = 'created' AND account.external_id IS NULL AS made
FROM account_link AS link JOIN account ON account.no = link.account_no
WHERE link.product_id = $1 AND link.integration_no = $2 AND link.sourced_id = $3;

-- name: end_link
WITH ended AS (
    DELETE FROM account_link WHERE account_no = $1 RETURNING account_no, product_id, integration_no, sourced_id
)
INSERT INTO link_event (account_no, product_id, integration_no, sourced_id, event, how, by)
SELECT account_no, product_id, integration_no, sourced_id, 'unlinked', $2, $3 FROM ended;

-- name: drop_made_account
UPDATE account SET deleted_at = now(), updated_at = now() WHERE no = $1 AND origin = 'roster' AND external_id IS NULL;

-- name: write_link
WITH lifted AS (
    DELETE FROM barred_link WHERE account_no = $1 AND integration_no = $3 AND sourced_id = $4
),
linked AS (
    INSERT INTO account_link (account_no, product_id, integration_no, sourced_id, how, by) VALUES ($1, $2, $3, $4, 'manual', $5)
)
INSERT INTO link_event (account_no, product_id, integration_no, sourced_id, event, how, by)
VALUES ($1, $2, $3, $4, 'linked', 'manual', $5);

-- name: bar_link
INSERT INTO barred_link (account_no, product_id, integration_no, sourced_id, by) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING;

-- name: list_account_links
SELECT link.integration_no, integration.id AS integration_id, link.sourced_id, link.how, link.since, link.by,
       account.id AS account_id, account.external_id
FROM account_link AS link
JOIN account ON account.no = link.account_no
JOIN integration ON integration.no = link.integration_no
WHERE link.product_id = $1 AND link.integration_no = ANY ($2::int[])
  AND (link.integration_no, link.sourced_id) > ($3, $4::text COLLATE "C")
ORDER BY link.integration_no, link.sourced_id
LIMIT $5;

-- name: list_unmatched
SELECT held.integration_no, integration.id AS integration_id, held.sourced_id, held.reason, held.since,
       (SELECT coalesce(jsonb_agg(jsonb_build_object('account_id', account.id, 'external_id', account.external_id) ORDER BY account.no), '[]')
        FROM account WHERE account.no = ANY (held.candidates) AND account.deleted_at IS NULL) AS candidates
FROM unmatched_person AS held
JOIN integration ON integration.no = held.integration_no
WHERE held.product_id = $1 AND held.integration_no = ANY ($2::int[])
  AND ($3::text IS NULL OR held.reason = $3)
  AND (held.integration_no, held.sourced_id) > ($4, $5::text COLLATE "C")
ORDER BY held.integration_no, held.sourced_id
LIMIT $6;

-- name: count_reasons
SELECT reason, count(*) FROM unmatched_person WHERE product_id = $1 AND integration_no = $2 GROUP BY reason;

-- name: list_link_events
SELECT event.no, event.at, event.event, event.how, event.by, integration.id AS integration_id, event.sourced_id
FROM link_event AS event JOIN integration ON integration.no = event.integration_no
WHERE event.account_no = $1 AND event.no > $2
ORDER BY event.no
LIMIT $3;

-- name: find_account_of_person
-- The account of a person for a sign-in: of themselves, or of whom they are in the SIS.
SELECT account.id, account.external_id, account.active, link.how
FROM (
    SELECT coalesce(person.joined_integration_no, $2) AS integration_no, coalesce(person.joined_sourced_id, $3) AS sourced_id
    FROM (SELECT) AS one LEFT JOIN rostered_person AS person ON person.integration_no = $2 AND person.sourced_id = $3
) AS represented
JOIN account_link AS link
  ON link.product_id = $1 AND link.integration_no = represented.integration_no AND link.sourced_id = represented.sourced_id
JOIN account ON account.no = link.account_no;

-- name: see_people
SELECT sourced_id, given_name, family_name, roles FROM roster_served.users
WHERE integration_no = $1 AND sourced_id = ANY ($2::text[]) AND active;
