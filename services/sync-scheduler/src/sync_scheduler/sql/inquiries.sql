-- name: add_inquiry
-- Who asks the same about the same settings while it is pending shares the answer. With $7 and $8 it is asked with
-- that connection instead of the integration's.
INSERT INTO inquiry (id, integration, kind, edition, deadline_at, headers, connection, sealed_secret)
VALUES ($1, $2, $3, $4, now() + $5::interval, $6, $7, $8)
ON CONFLICT DO NOTHING

-- name: pending_inquiry
SELECT id FROM inquiry
WHERE integration = $1 AND kind = $2 AND edition = $3 AND answered_at IS NULL AND sealed_secret IS NULL

-- name: fresh_inquiry
-- An answer to the same question about the same settings that is not old yet.
SELECT * FROM inquiry
WHERE integration = $1 AND kind = $2 AND edition = $3 AND code IS NULL AND answered_at > now() - $4::interval
ORDER BY answered_at DESC
LIMIT 1

-- name: inquiry
SELECT inquiry.*, integration.options
FROM inquiry JOIN integration ON integration.id = inquiry.integration
WHERE inquiry.id = $1 AND ($2::uuid IS NULL OR integration.organization = $2)

-- name: answer_inquiry
-- The first answer counts.
UPDATE inquiry
SET answered_at = now(), code = $3, detail = $4, answer = $5, publish_at = NULL, connection = NULL, sealed_secret = NULL
WHERE id = $1 AND integration = $2 AND answered_at IS NULL

-- name: unpublished_inquiries
SELECT inquiry.id, inquiry.kind, inquiry.published, inquiry.asked_at, inquiry.deadline_at, inquiry.headers,
    integration.id AS integration, integration.organization, integration.provider, integration.region,
    coalesce(inquiry.connection, integration.connection) AS connection,
    coalesce(inquiry.sealed_secret, integration.sealed_secret) AS sealed_secret,
    integration.options, integration.sis, integration.time_zone,
    upload.id AS upload, upload.number AS upload_number, upload.received_at AS upload_received_at
FROM inquiry
JOIN integration ON integration.id = inquiry.integration
LEFT JOIN LATERAL (
    SELECT * FROM upload
    WHERE upload.integration = integration.id AND upload.state IN ('pending', 'used', 'failed')
    ORDER BY number DESC
    LIMIT 1
) AS upload ON true
WHERE inquiry.answered_at IS NULL AND inquiry.publish_at <= now() AND inquiry.deadline_at > now()
ORDER BY inquiry.asked_at
LIMIT $1
FOR NO KEY UPDATE OF inquiry SKIP LOCKED

-- name: mark_inquiry
UPDATE inquiry
SET published = published + 1, publish_at = CASE WHEN published + 1 < $2 THEN now() + $3::interval END
WHERE id = $1

-- name: end_overdue_inquiries
UPDATE inquiry
SET answered_at = now(), code = $1, detail = $2, publish_at = NULL, connection = NULL, sealed_secret = NULL
WHERE id IN (
    SELECT id FROM inquiry
    WHERE answered_at IS NULL AND deadline_at <= now()
    LIMIT $3
    FOR NO KEY UPDATE SKIP LOCKED
)

-- name: end_inquiries
UPDATE inquiry
SET answered_at = now(), code = $2, detail = $3, publish_at = NULL, connection = NULL, sealed_secret = NULL
WHERE integration = $1 AND answered_at IS NULL

-- name: forget_inquiries
DELETE FROM inquiry
WHERE id IN (
    SELECT id FROM inquiry
    WHERE asked_at <= now() - $1::interval
    LIMIT $2
    FOR UPDATE SKIP LOCKED
)
