-- The audit as a chain: each entry's hash covers the one before, so that nothing is changed or taken out unnoticed.

DROP TRIGGER audit_append_only ON audit_entry;
DROP FUNCTION refuse_audit_change();
ALTER TABLE audit_entry
    ADD COLUMN product uuid,             -- whose token it was done with, or that it concerns
    ADD COLUMN number bigint UNIQUE,     -- its place in the chain, given at the commit
    ADD COLUMN hash bytea;

-- An entry's hash: over all of it and the hash of the one before. jsonb writes its text in one way only.
CREATE FUNCTION hash_audit(previous bytea, entry audit_entry) RETURNS bytea LANGUAGE sql STABLE
    RETURN sha256(previous || convert_to(jsonb_build_array(
        entry.number, (extract(epoch FROM entry.at) * 1000000)::bigint, entry.organization, entry.product, entry.by,
        entry.action, entry.subject, entry.detail)::text, 'UTF8'));

-- The two ends of the chain. Before entry 1 stands the hash of nothing.
CREATE TABLE audit_chain (
    one            boolean PRIMARY KEY DEFAULT true CHECK (one),
    forgotten      bigint NOT NULL DEFAULT 0,         -- the last entry that retention took away
    forgotten_hash bytea NOT NULL DEFAULT sha256(''),
    newest         bigint NOT NULL DEFAULT 0,
    newest_hash    bytea NOT NULL DEFAULT sha256('')
);
INSERT INTO audit_chain DEFAULT VALUES;

-- Numbers and seals an entry when its transaction commits, so that nobody waits for the chain longer than that.
CREATE FUNCTION seal_audit() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    chain audit_chain;
    sealed audit_entry;
BEGIN
    UPDATE audit_chain SET newest = newest + 1 RETURNING * INTO chain;
    sealed := NEW;
    sealed.number := chain.newest;
    sealed.hash := hash_audit(chain.newest_hash, sealed);
    UPDATE audit_entry SET number = sealed.number, hash = sealed.hash WHERE position = NEW.position;
    UPDATE audit_chain SET newest_hash = sealed.hash;
    RETURN NULL;
END $$;

-- What was written before is sealed in its order.
DO $$
DECLARE
    entry audit_entry;
    last audit_chain;
BEGIN
    SELECT * INTO last FROM audit_chain;
    FOR entry IN SELECT * FROM audit_entry ORDER BY position
    LOOP
        last.newest := last.newest + 1;
        entry.number := last.newest;
        last.newest_hash := hash_audit(last.newest_hash, entry);
        UPDATE audit_entry SET number = last.newest, hash = last.newest_hash WHERE position = entry.position;
    END LOOP;
    UPDATE audit_chain SET newest = last.newest, newest_hash = last.newest_hash;
END $$;

DROP INDEX audit_of_organization, audit_of_subject;
CREATE INDEX audit_of_organization ON audit_entry (organization, number DESC);
CREATE INDEX audit_of_subject ON audit_entry (subject, number DESC);

CREATE CONSTRAINT TRIGGER audit_sealed AFTER INSERT ON audit_entry
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION seal_audit();

-- What is written is sealed once and goes only when the chain has moved past it.
CREATE FUNCTION guard_audit() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.number <= (SELECT forgotten FROM audit_chain) THEN
            RETURN OLD;
        END IF;
    ELSIF TG_OP = 'UPDATE' AND OLD.hash IS NULL AND NEW.hash IS NOT NULL
        AND to_jsonb(OLD) - 'number' - 'hash' = to_jsonb(NEW) - 'number' - 'hash' THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'the audit is only ever added to';
END $$;
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit_entry FOR EACH ROW EXECUTE FUNCTION guard_audit();
CREATE TRIGGER audit_never_emptied BEFORE TRUNCATE ON audit_entry FOR EACH STATEMENT EXECUTE FUNCTION guard_audit();

-- The chain only grows at one end, and loses what is old at the other.
CREATE FUNCTION guard_audit_chain() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP <> 'UPDATE' OR NEW.newest < OLD.newest OR NEW.forgotten < OLD.forgotten THEN
        RAISE EXCEPTION 'the audit is only ever added to';
    END IF;
    IF NEW.forgotten > OLD.forgotten AND NOT EXISTS (
        SELECT FROM audit_entry
        WHERE number = NEW.forgotten AND hash = NEW.forgotten_hash AND at < now() - interval '30 days'
    ) THEN
        RAISE EXCEPTION 'only entries older than 30 days are forgotten, oldest first';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER audit_chain_guarded BEFORE UPDATE OR DELETE ON audit_chain
FOR EACH ROW EXECUTE FUNCTION guard_audit_chain();
CREATE TRIGGER audit_chain_never_emptied BEFORE TRUNCATE ON audit_chain
FOR EACH STATEMENT EXECUTE FUNCTION guard_audit_chain();

-- Forgets at most so many of the entries that are older than so long, up to the first younger one; how many went.
CREATE FUNCTION forget_audit(older interval, most int) RETURNS int LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    last record;
    gone int;
BEGIN
    SELECT number, hash INTO last FROM (
        SELECT number, hash, bool_and(at < now() - older) OVER (ORDER BY number) AS old
        FROM (SELECT number, hash, at FROM audit_entry ORDER BY number LIMIT most) AS oldest
    ) AS judged
    WHERE old ORDER BY number DESC LIMIT 1;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    UPDATE audit_chain SET forgotten = last.number, forgotten_hash = last.hash;
    DELETE FROM audit_entry WHERE number <= last.number;
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END $$;

-- Records that are only about people who were erased, by a hash: what providers and services go on to say of them is not
-- written down.
CREATE TABLE erased_record (
    integration uuid NOT NULL REFERENCES integration,
    key bytea NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (integration, key)
);

-- What runs found is forgotten after a time.
CREATE INDEX run_to_forget ON run (finished_at) WHERE issues <> '[]' OR teacher_sourced_id IS NOT NULL;
