-- name: find_staff_account
SELECT * FROM staff_account WHERE id = $1

-- name: find_staff_of
-- Who somebody is who came by a portal: by its own user id, and by what the roster calls them.
SELECT * FROM staff_account
WHERE (kind = 'portal' AND connection_id = $1 AND tenant = $2 AND subject = $3)
   OR (kind = 'rostered' AND integration_id = $4 AND sourced_id = ANY ($5::text[]))
ORDER BY kind, id

-- name: find_local_staff
SELECT * FROM staff_account WHERE kind = 'local' AND username = $1

-- name: list_staff_roles
SELECT staff_role.*, organization.name AS organization_name, product.name AS product_name
FROM staff_role
LEFT JOIN organization ON organization.id = staff_role.organization_id
LEFT JOIN product ON product.id = staff_role.product_id
WHERE account_id = ANY ($1::uuid[])
ORDER BY account_id, id

-- name: add_portal_staff
INSERT INTO staff_account (id, kind, organization_id, connection_id, tenant, subject, label)
VALUES ($1, 'portal', $2, $3, $4, $5, $6)
ON CONFLICT (connection_id, tenant, subject) WHERE kind = 'portal'
DO UPDATE SET label = coalesce(staff_account.label, excluded.label)
RETURNING *

-- name: add_rostered_staff
INSERT INTO staff_account (id, kind, organization_id, integration_id, sourced_id, label)
VALUES ($1, 'rostered', $2, $3, $4, $5)
ON CONFLICT (integration_id, sourced_id) WHERE kind = 'rostered'
DO UPDATE SET label = coalesce(excluded.label, staff_account.label)
RETURNING *

-- name: add_local_staff
INSERT INTO staff_account (id, kind, organization_id, username, password_hash, label)
VALUES ($1, 'local', $2, $3, $4, $5)
ON CONFLICT (username) WHERE kind = 'local' DO NOTHING
RETURNING *

-- name: declare_local_staff
-- What the operator declares; with $5 as well if it was disabled. A password that is another one ends its sessions.
WITH before AS (SELECT id, password_hash FROM staff_account WHERE kind = 'local' AND username = $2 FOR UPDATE),
ended AS (DELETE FROM session WHERE staff_id IN (SELECT id FROM before WHERE password_hash <> $3))
INSERT INTO staff_account (id, kind, organization_id, username, password_hash, declared)
VALUES ($1, 'local', NULL, $2, $3, $4)
ON CONFLICT (username) WHERE kind = 'local' DO UPDATE SET
    password_hash = excluded.password_hash,
    organization_id = NULL,
    disabled_at = CASE WHEN $5 OR NOT staff_account.declared THEN NULL ELSE staff_account.disabled_at END,
    declared = staff_account.declared OR excluded.declared
RETURNING *

-- name: release_staff
-- Who was declared and is not any more can't sign in.
UPDATE staff_account SET declared = false, disabled_at = coalesce(disabled_at, now())
WHERE declared AND username <> ALL ($1::text[])
RETURNING id

-- name: use_staff
UPDATE staff_account SET last_used_at = now()
WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')

-- name: add_staff_role
INSERT INTO staff_role (id, account_id, role, organization_id, product_id, granted_by)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (account_id, role, organization_id, product_id) DO NOTHING
RETURNING *

-- name: find_staff_role
SELECT * FROM staff_role
WHERE account_id = $1 AND role = $2
    AND organization_id IS NOT DISTINCT FROM $3 AND product_id IS NOT DISTINCT FROM $4

-- name: lock_staff_role
SELECT staff_role.* FROM staff_role WHERE account_id = $1 AND id = $2 FOR UPDATE

-- name: drop_staff_role
DELETE FROM staff_role WHERE id = $1

-- name: lock_staff
-- An account an organization may see: of its people, or with a role in it.
SELECT *, ($2::uuid IS NULL OR organization_id = $2) AS own
FROM staff_account
WHERE id = $1 AND ($2::uuid IS NULL OR organization_id = $2 OR EXISTS (
    SELECT FROM staff_role WHERE account_id = staff_account.id AND staff_role.organization_id = $2
))
FOR UPDATE OF staff_account

-- name: change_staff
UPDATE staff_account SET
    label = CASE WHEN $2 THEN $3 ELSE label END,
    disabled_at = CASE WHEN $4::boolean IS NULL THEN disabled_at WHEN $4 THEN coalesce(disabled_at, now()) END
WHERE id = $1
RETURNING *

-- name: list_staff
-- Teachers who came in and were given nothing stand in the roster; they are not listed unless they were disabled.
SELECT * FROM staff_account
WHERE id > $1
    AND ($2::uuid IS NULL OR organization_id = $2 OR EXISTS (
        SELECT FROM staff_role WHERE account_id = staff_account.id AND staff_role.organization_id = $2
    ))
    AND (kind <> 'rostered' OR disabled_at IS NOT NULL OR EXISTS (
        SELECT FROM staff_role WHERE account_id = staff_account.id
    ))
ORDER BY id LIMIT $3

-- name: find_staff_sessions
SELECT id FROM session WHERE staff_id = $1

-- name: find_staff_integration
SELECT * FROM integration WHERE id = $1 AND ($2::uuid IS NULL OR organization_id = $2)

-- name: find_staff_organization
SELECT * FROM organization WHERE id = $1

-- name: name_organizations
SELECT id, name FROM organization WHERE id = ANY ($1::uuid[])

-- name: name_products
SELECT id, name FROM product WHERE id = ANY ($1::uuid[])

-- name: add_invitation
INSERT INTO staff_invitation (
    id, token_hash, role, organization_id, product_id, home_id, local, label, invited_by, expires_at
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, now() + make_interval(hours => $10))
RETURNING *

-- name: find_invitation
-- One that can be used, by its token's hash or by its id.
SELECT staff_invitation.*, organization.name AS organization_name, product.name AS product_name
FROM staff_invitation
LEFT JOIN organization ON organization.id = staff_invitation.organization_id
LEFT JOIN product ON product.id = staff_invitation.product_id
WHERE (token_hash = $1 OR staff_invitation.id = $2)
    AND accepted_at IS NULL AND withdrawn_at IS NULL AND expires_at > now()

-- name: use_invitation
UPDATE staff_invitation SET accepted_at = now(), account_id = $2
WHERE id = $1 AND accepted_at IS NULL AND withdrawn_at IS NULL AND expires_at > now()
RETURNING *

-- name: list_invitations
SELECT * FROM staff_invitation
WHERE id > $1 AND ($2::uuid IS NULL OR organization_id = $2)
ORDER BY id LIMIT $3

-- name: withdraw_invitation
-- One that was used stays so.
UPDATE staff_invitation SET withdrawn_at = CASE WHEN accepted_at IS NULL THEN coalesce(withdrawn_at, now()) END
WHERE id = $1 AND ($2::uuid IS NULL OR organization_id = $2)
RETURNING *

-- name: know_browser
-- A browser in which a local account signed in with its password; old ones are forgotten.
WITH old AS (
    DELETE FROM staff_browser
    WHERE account_id = $1 AND browser_hash <> $2 AND used_at < now() - interval '90 days'
)
INSERT INTO staff_browser (account_id, browser_hash) VALUES ($1, $2)
ON CONFLICT (account_id, browser_hash) DO UPDATE SET used_at = now()

-- name: knows_browser
SELECT EXISTS (
    SELECT FROM staff_browser
    WHERE account_id = $1 AND browser_hash = $2 AND used_at > now() - interval '90 days'
)
