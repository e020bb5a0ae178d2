-- name: find_access
SELECT EXISTS (
    SELECT FROM access WHERE product_id = $1 AND organization_id = $2 AND live AND until > now());

-- name: find_account_numbers
SELECT no FROM account WHERE product_id = $1 AND organization_id = $2 AND external_id = ANY ($3::text[]);

-- name: put_accounts
-- Accounts as the product has them now; what is as it was is left alone. One that was deleted is there again.
WITH given AS MATERIALIZED (
    SELECT given.*, normal_address(given.email) AS normal
    FROM unnest($3::text[], $4::text[], $5::text[], $6::uuid[], $7::text[], $8::boolean[])
         AS given (external_id, email, role, integration_id, sourced_id, active)
)
INSERT INTO account AS held (
    product_id, organization_id, external_id, email, address, role, integration_id, sourced_id, active, origin)
SELECT $1, $2, external_id, email, CASE WHEN find_address_fault(normal) IS NULL THEN digest_address(normal) END,
       role, integration_id, sourced_id, active, 'product'
FROM given
ON CONFLICT (product_id, organization_id, external_id) DO UPDATE
SET email = excluded.email, address = excluded.address, role = excluded.role, integration_id = excluded.integration_id,
    sourced_id = excluded.sourced_id, active = excluded.active, updated_at = now(), deleted_at = NULL,
    created_at = CASE WHEN held.deleted_at IS NULL THEN held.created_at ELSE now() END
WHERE held.deleted_at IS NOT NULL
   OR (held.email, held.address, held.role, held.integration_id, held.sourced_id, held.active)
      IS DISTINCT FROM (excluded.email, excluded.address, excluded.role, excluded.integration_id, excluded.sourced_id, excluded.active)
RETURNING no, external_id, created_at = updated_at AS created;

-- name: name_accounts
SELECT external_id, id FROM account WHERE product_id = $1 AND organization_id = $2 AND external_id = ANY ($3::text[]);

-- name: list_accounts
SELECT account.*, link.how, link.since AS linked_since, link.sourced_id AS linked_sourced_id, integration.id AS linked_integration_id
FROM account
LEFT JOIN account_link AS link ON link.account_no = account.no
LEFT JOIN integration ON integration.no = link.integration_no
WHERE account.product_id = $1 AND account.organization_id = $2 AND account.deleted_at IS NULL AND account.no > $3
  AND ($4::boolean IS NULL OR (link.account_no IS NOT NULL) = $4)
  AND ($5::text IS NULL OR account.origin = $5)
ORDER BY account.no
LIMIT $6;

-- name: find_account
-- As long as the product is licensed for the organization.
SELECT account.*, link.how, link.since AS linked_since, link.sourced_id AS linked_sourced_id, integration.id AS linked_integration_id
FROM account
JOIN access USING (product_id, organization_id)
LEFT JOIN account_link AS link ON link.account_no = account.no
LEFT JOIN integration ON integration.no = link.integration_no
WHERE account.id = $1 AND account.deleted_at IS NULL AND access.live AND access.until > now()
  AND ($2::uuid IS NULL OR account.product_id = $2) AND ($3::uuid IS NULL OR account.organization_id = $3);

-- name: name_account
UPDATE account SET external_id = $2, updated_at = now() WHERE no = $1;

-- name: delete_account
WITH ended AS (
    DELETE FROM account_link WHERE account_no = $1 RETURNING account_no, product_id, integration_no, sourced_id
),
told AS (
    INSERT INTO link_event (account_no, product_id, integration_no, sourced_id, event, how, by)
    SELECT account_no, product_id, integration_no, sourced_id, 'unlinked', 'deleted', $2 FROM ended
),
bars AS (DELETE FROM barred_link WHERE account_no = $1)
UPDATE account
SET deleted_at = now(), updated_at = now(), email = NULL, address = NULL, role = NULL, integration_id = NULL, sourced_id = NULL
WHERE no = $1;

-- name: count_accounts
SELECT count(*) AS accounts, count(link.account_no) AS linked,
       count(*) FILTER (WHERE account.origin = 'roster' AND account.external_id IS NULL) AS made
FROM account LEFT JOIN account_link AS link ON link.account_no = account.no
WHERE account.product_id = $1 AND account.organization_id = $2 AND account.deleted_at IS NULL;
