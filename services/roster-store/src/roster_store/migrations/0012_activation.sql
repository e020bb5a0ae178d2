-- What the feed of a product needs beside `activation` (D2): its steps found quickly, and what hides itself told.

-- Steps of everybody's feed among those of many products.
CREATE INDEX apply_of_everybody ON apply (no) WHERE product_id IS NULL;
CREATE INDEX apply_of_integration ON apply (integration_no, no) WHERE product_id IS NULL;

-- Most records stay seen once they are seen, or say themselves that they are removed. Few hide by a change of their own:
-- a teacher who is nothing but a parent from now on, an enrollment that goes to a class that waits, a district that
-- becomes a school. What they were before is kept, so that those who saw it are told that it is gone.
CREATE TABLE former (
    integration_no   int NOT NULL,
    collection       text NOT NULL,              -- orgs, users or enrollments
    sourced_id       text COLLATE "C" NOT NULL,
    kind             text NOT NULL DEFAULT '',   -- of a user: staff or student
    class_sourced_id text COLLATE "C" NOT NULL DEFAULT '',  -- of an enrollment
    user_sourced_id  text COLLATE "C" NOT NULL DEFAULT '',
    PRIMARY KEY (integration_no, collection, sourced_id, kind, class_sourced_id, user_sourced_id)
);
SELECT guard_table('former');

-- What a person is to the rules of the views: the first of staff, student, guardian that one of their roles comes to.
CREATE FUNCTION kind_of(roles jsonb) RETURNS text LANGUAGE sql IMMUTABLE
    RETURN CASE
        WHEN roles @? '$[*] ? (@.role != "student" && @.role != "guardian" && @.role != "parent" && @.role != "relative")' THEN 'staff'
        WHEN roles @? '$[*] ? (@.role == "student")' THEN 'student'
        ELSE 'guardian' END;

CREATE FUNCTION keep_former() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'users' THEN
        IF roster.kind_of(OLD.roles) <> roster.kind_of(NEW.roles) THEN
            INSERT INTO roster.former (integration_no, collection, sourced_id, kind)
            VALUES (OLD.integration_no, 'users', OLD.sourced_id, roster.kind_of(OLD.roles))
            ON CONFLICT DO NOTHING;
        END IF;
    ELSIF TG_TABLE_NAME = 'enrollments' THEN
        INSERT INTO roster.former (integration_no, collection, sourced_id, class_sourced_id, user_sourced_id)
        VALUES (OLD.integration_no, 'enrollments', OLD.sourced_id, OLD.class_sourced_id, OLD.user_sourced_id)
        ON CONFLICT DO NOTHING;
    ELSE
        INSERT INTO roster.former (integration_no, collection, sourced_id)
        VALUES (OLD.integration_no, 'orgs', OLD.sourced_id)
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER keep_former AFTER UPDATE ON users FOR EACH ROW
    WHEN (OLD.roles IS DISTINCT FROM NEW.roles) EXECUTE FUNCTION keep_former();
CREATE TRIGGER keep_former AFTER UPDATE ON enrollments FOR EACH ROW
    WHEN (OLD.class_sourced_id <> NEW.class_sourced_id OR OLD.user_sourced_id <> NEW.user_sourced_id)
    EXECUTE FUNCTION keep_former();
CREATE TRIGGER keep_former AFTER UPDATE ON orgs FOR EACH ROW
    WHEN (OLD.type <> 'school' AND NEW.type = 'school') EXECUTE FUNCTION keep_former();

-- ── what a step hid of what was seen ─────────────────────────────────────────────────────────────────────────────

-- Of records between two places of a step: those that what is looked at does not show any more, and did once. They give
-- ids and versions, nothing else. As the views they heed what the transaction says it looks at; they run as the owner
-- of the tables, since a policy that shows such a record would show it in the views as well. That they are at work is
-- said inside, since only a superuser may say it in the head of a function; it gives a reader nothing, whose policies
-- don't ask for it.

CREATE FUNCTION is_awake(collection text, sourced_id text) RETURNS boolean LANGUAGE sql STABLE
    RETURN NOT roster.waits_for_teachers() OR EXISTS (
        SELECT FROM roster.activation AS awake
        WHERE awake.product_id = roster.seen_product() AND awake.integration_no = roster.seen_integration()
          AND awake.collection = is_awake.collection AND awake.sourced_id = is_awake.sourced_id);
CREATE FUNCTION is_kind_seen(kind text, sourced_id text) RETURNS boolean LANGUAGE sql STABLE
    RETURN (kind <> 'guardian' OR current_setting('homeroom.guardians', true) = 'on')
       AND (kind = 'staff' OR roster.is_awake('users', sourced_id));
CREATE FUNCTION was_at_schools(collection text, sourced_id text) RETURNS boolean LANGUAGE sql STABLE
    RETURN NOT roster.is_limited() OR EXISTS (
        SELECT FROM roster.belonging AS part
        WHERE part.integration_no = roster.seen_integration() AND part.collection = was_at_schools.collection
          AND part.sourced_id = was_at_schools.sourced_id AND part.ever && roster.seen_schools());

CREATE FUNCTION roster_served.departed_users(step bigint, first int, last int)
    RETURNS TABLE (sourced_id text, change_no int, version int)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = roster AS $$
    #variable_conflict use_column
    BEGIN
    PERFORM set_config('homeroom.access', 'work', true);
    RETURN QUERY SELECT held.sourced_id, held.change_no,
           held.version + coalesce((
               SELECT part.version FROM belonging AS part
               WHERE is_limited() AND part.integration_no = held.integration_no AND part.collection = 'users'
                 AND part.sourced_id = held.sourced_id), 0)
    FROM users AS held
    WHERE held.integration_no = seen_integration() AND held.changed_by = step AND held.change_no BETWEEN first AND last
      AND NOT is_kind_seen(kind_of(held.roles), held.sourced_id)
      AND was_at_schools('users', held.sourced_id)
      AND EXISTS (
          SELECT FROM former
          WHERE former.integration_no = held.integration_no AND former.collection = 'users'
            AND former.sourced_id = held.sourced_id AND is_kind_seen(former.kind, held.sourced_id));
    PERFORM set_config('homeroom.access', '', true);
    END $$;

-- One version for its class and one for its person, which it had while it was seen.
CREATE FUNCTION roster_served.departed_enrollments(step bigint, first int, last int)
    RETURNS TABLE (sourced_id text, change_no int, version int)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = roster AS $$
    #variable_conflict use_column
    BEGIN
    PERFORM set_config('homeroom.access', 'work', true);
    RETURN QUERY SELECT held.sourced_id, held.change_no,
           held.version + 2 + coalesce((
               SELECT part.version FROM belonging AS part
               WHERE is_limited() AND part.integration_no = held.integration_no AND part.collection = 'enrollments'
                 AND part.sourced_id = held.sourced_id), 0)
    FROM enrollments AS held
    WHERE waits_for_teachers()
      AND held.integration_no = seen_integration() AND held.changed_by = step AND held.change_no BETWEEN first AND last
      AND NOT (is_awake('classes', held.class_sourced_id) AND is_awake('users', held.user_sourced_id))
      AND was_at_schools('enrollments', held.sourced_id)
      AND EXISTS (
          SELECT FROM former
          WHERE former.integration_no = held.integration_no AND former.collection = 'enrollments'
            AND former.sourced_id = held.sourced_id
            AND is_awake('classes', former.class_sourced_id) AND is_awake('users', former.user_sourced_id));
    PERFORM set_config('homeroom.access', '', true);
    END $$;

CREATE FUNCTION roster_served.departed_orgs(step bigint, first int, last int)
    RETURNS TABLE (sourced_id text, change_no int, version int)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = roster AS $$
    #variable_conflict use_column
    BEGIN
    PERFORM set_config('homeroom.access', 'work', true);
    RETURN QUERY SELECT held.sourced_id, held.change_no, held.version
    FROM orgs AS held
    WHERE is_limited()
      AND held.integration_no = seen_integration() AND held.changed_by = step AND held.change_no BETWEEN first AND last
      AND held.type = 'school' AND held.sourced_id <> ALL (seen_schools())
      AND EXISTS (
          SELECT FROM former
          WHERE former.integration_no = held.integration_no AND former.collection = 'orgs'
            AND former.sourced_id = held.sourced_id);
    PERFORM set_config('homeroom.access', '', true);
    END $$;

REVOKE ALL ON FUNCTION roster_served.departed_users, roster_served.departed_enrollments, roster_served.departed_orgs FROM PUBLIC;
GRANT EXECUTE ON FUNCTION roster_served.departed_users, roster_served.departed_enrollments, roster_served.departed_orgs
    TO homeroom_reader;
