-- name: begin_flow
-- A restart goes on with the launch it belongs to.
WITH trace AS (
    INSERT INTO launch (id, support_id, purpose, upstream_id, connection_id, organization_id, product_id, steps)
    SELECT $3, $4, $7, $5, door.id, door.organization_id, $8, $15
    FROM (SELECT) AS one LEFT JOIN connection AS door ON door.id = coalesce($6::uuid, $5::uuid)
    ON CONFLICT (id) DO UPDATE SET
        steps = CASE WHEN jsonb_array_length(launch.steps) < 100 THEN launch.steps || excluded.steps ELSE launch.steps END
)
INSERT INTO flow (
    state_hash, browser_hash, launch_id, support_id, upstream_id, connection_id, purpose, product_id, destination,
    resume, nonce, code_verifier, restarts, expires_at, fresh
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, now() + make_interval(secs => $14), $16)

-- name: take_flow
DELETE FROM flow
WHERE state_hash = $1 AND browser_hash = ANY ($2::bytea[]) AND upstream_id = $3 AND expires_at > now()
RETURNING *

-- name: present
-- A repeat is one even if the row is past its time and was not swept away yet.
INSERT INTO presented (hash, expires_at) VALUES ($1, now() + make_interval(secs => $2))
ON CONFLICT (hash) DO NOTHING
RETURNING hash

-- name: take_presented_flow
-- Noting a code and taking its flow, which only a code does that was never noted: no row if it was, and a row of
-- nothing if no flow is found.
WITH noted AS (
    INSERT INTO presented (hash, expires_at) VALUES ($4, now() + make_interval(secs => $5))
    ON CONFLICT (hash) DO NOTHING
    RETURNING hash
), taken AS (
    DELETE FROM flow
    WHERE state_hash = $1 AND browser_hash = ANY ($2::bytea[]) AND upstream_id = $3 AND expires_at > now()
        AND EXISTS (SELECT FROM noted)
    RETURNING *
)
SELECT taken.* FROM noted LEFT JOIN taken ON true

-- name: sweep_flows
DELETE FROM flow WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM flow WHERE expires_at < now() - interval '1 minute' LIMIT $1 FOR UPDATE SKIP LOCKED
))

-- name: sweep_presented
DELETE FROM presented WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM presented WHERE expires_at < now() LIMIT $1 FOR UPDATE SKIP LOCKED
))
