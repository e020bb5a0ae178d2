-- What the store writes, seen from beside it: every version of every record, in the transaction that writes it.
-- Numbers are given while the integration's row is locked, so for one integration they grow in the order of commits.

CREATE SCHEMA recorder;
CREATE TABLE recorder.written (
    no             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at             timestamptz NOT NULL DEFAULT clock_timestamp(),
    transaction    text NOT NULL DEFAULT pg_current_xact_id()::text,
    relation       text NOT NULL,
    operation      text NOT NULL,
    integration_no int NOT NULL,
    entry          jsonb NOT NULL
);

CREATE FUNCTION recorder.write() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    entry jsonb;
BEGIN
    IF TG_OP = 'DELETE' THEN entry := to_jsonb(OLD); ELSE entry := to_jsonb(NEW); END IF;
    INSERT INTO recorder.written (relation, operation, integration_no, entry)
    VALUES (TG_TABLE_NAME, TG_OP, (entry ->> 'integration_no')::int, entry);
    RETURN NULL;
END $$;

DO $$
DECLARE relation text;
BEGIN
    FOREACH relation IN ARRAY ARRAY['orgs', 'academic_sessions', 'courses', 'classes', 'users', 'enrollments',
                                    'demographics', 'apply', 'staged_fetch']
    LOOP
        EXECUTE format('CREATE TRIGGER recorder AFTER INSERT OR UPDATE OR DELETE ON roster.%I '
                       'FOR EACH ROW EXECUTE FUNCTION recorder.write()', relation);
    END LOOP;
END $$;
