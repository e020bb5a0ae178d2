-- name: find_bearers
-- An integration, what the licenses of a product come to there, and who has a value in a field: two of those who are
-- active, and of nobody who is, some of those who were. With each the sourcedIds they had before, and their enrollments
-- (for a product whose classes wait for their teachers, in those that were started).
SELECT integration.no, integration.id, integration.organization_id, integration.synced_at,
       access.schools, access.grants, access.product_id IS NOT NULL AS licensed,
       bearer.sourced_id, bearer.active, bearer.enabled_user, bearer.formerly, part.enrollments, part.classes
FROM integration
LEFT JOIN access
    ON access.organization_id = integration.organization_id AND access.product_id = $3 AND access.live AND access.until > now()
LEFT JOIN LATERAL (
    SELECT held.sourced_id, held.active, held.enabled_user, CASE WHEN held.active THEN {formerly} END AS formerly
    FROM users AS held
    WHERE held.integration_no = integration.no AND {condition}
    ORDER BY {order}
    LIMIT 2
) AS bearer ON true
LEFT JOIN LATERAL (
    SELECT array_agg(own.sourced_id) AS enrollments, array_agg(own.class_sourced_id) AS classes
    FROM (
        SELECT sourced_id, class_sourced_id FROM enrollments AS held
        WHERE bearer.active AND held.integration_no = integration.no AND held.active AND held.user_sourced_id = bearer.sourced_id
          AND (access.teacher_started IS NOT TRUE OR EXISTS (
              SELECT FROM activation AS started
              WHERE started.product_id = access.product_id AND started.integration_no = held.integration_no
                AND started.collection = 'classes' AND started.sourced_id = held.class_sourced_id))
        LIMIT 1000
    ) AS own
) AS part ON true
WHERE integration.id = $1;

-- name: formerly
-- Removed records of the same integration with the same identifier of the SIS or of the state, where no other active
-- record has it, and where the other of the two says nothing else: an identifier may be given to somebody else later.
ARRAY(
    SELECT past.sourced_id FROM users AS past
    WHERE past.integration_no = held.integration_no AND NOT past.active AND past.sourced_id <> held.sourced_id
      AND held.identifier <> '' AND past.identifier <> ''
      AND past.identifier COLLATE "C" = held.identifier
      AND (coalesce(held.user_master_identifier, '') = '' OR coalesce(past.user_master_identifier, '') = ''
           OR past.user_master_identifier COLLATE "C" = held.user_master_identifier)
      AND NOT EXISTS (
          SELECT FROM users AS twin
          WHERE twin.integration_no = held.integration_no AND twin.active AND twin.sourced_id <> held.sourced_id
            AND twin.identifier <> '' AND twin.identifier COLLATE "C" = held.identifier)
    UNION
    SELECT past.sourced_id FROM users AS past
    WHERE past.integration_no = held.integration_no AND NOT past.active AND past.sourced_id <> held.sourced_id
      AND held.user_master_identifier <> '' AND past.user_master_identifier <> ''
      AND past.user_master_identifier COLLATE "C" = held.user_master_identifier
      AND (coalesce(held.identifier, '') = '' OR coalesce(past.identifier, '') = ''
           OR past.identifier COLLATE "C" = held.identifier)
      AND NOT EXISTS (
          SELECT FROM users AS twin
          WHERE twin.integration_no = held.integration_no AND twin.active AND twin.sourced_id <> held.sourced_id
            AND twin.user_master_identifier <> '' AND twin.user_master_identifier COLLATE "C" = held.user_master_identifier)
    LIMIT 20)

-- name: see_arrived
-- Somebody as a sight shows them, with those of their classes that it shows. Enrollments and classes are named, since
-- a view's column that may be masked has no index.
SELECT held.sourced_id, held.given_name, held.family_name, held.preferred_first_name, held.roles,
       held.email, held.username, held.grades, held.identifier,
       (SELECT coalesce(jsonb_agg(jsonb_build_object('sourced_id', mine.sourced_id, 'title', mine.title, 'role', mine.role)), '[]')
        FROM (
            SELECT DISTINCT class.title, class.sourced_id, part.role
            FROM roster_served.enrollments AS part
            JOIN roster_served.classes AS class ON class.sourced_id = part.class_sourced_id
            WHERE part.sourced_id = ANY ($3::text[]) AND part.active AND class.sourced_id = ANY ($4::text[]) AND class.active
            ORDER BY class.title, class.sourced_id, part.role
            LIMIT $2
        ) AS mine) AS classes
FROM roster_served.users AS held WHERE held.sourced_id = $1 AND held.active;

-- name: note_synced
UPDATE integration SET synced_at = greatest(synced_at, coalesce($2::timestamptz, now())) WHERE no = $1;
