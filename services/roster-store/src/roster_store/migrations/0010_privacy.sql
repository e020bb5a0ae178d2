-- The audit log, the erasure of people, and what is kept for how long.

-- Who did what: written beside what was done, in the same transaction, and never changed.
CREATE TABLE audit_entry (
    position     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    organization uuid,                       -- null for what concerns none, or all
    product      uuid,                       -- whose token it was done with, or that it concerns
    by           text NOT NULL,              -- the subject of the caller's token, or a name of ours
    action       text NOT NULL,              -- what was done, as `thing.verb`
    subject      text NOT NULL,              -- what it was done to, as `thing:id`
    detail       jsonb NOT NULL DEFAULT '{}', -- ids, codes and settings; no personal data, no secrets
    number       bigint UNIQUE,              -- its place in the chain, given at the commit
    hash         bytea
);
CREATE INDEX audit_of_organization ON audit_entry (organization, number DESC);
CREATE INDEX audit_of_subject ON audit_entry (subject, number DESC);
SELECT guard_table('audit_entry');

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

-- ── erasure ──────────────────────────────────────────────────────────────────────────────────────────────────────

-- What stands for a sourcedId where nobody is to be named.
CREATE FUNCTION hide_id(organization uuid, sourced_id text) RETURNS uuid LANGUAGE sql STABLE STRICT PARALLEL SAFE
    RETURN encode(substr(sha256(convert_to(organization::text || ':' || sourced_id, 'UTF8')), 1, 16), 'hex')::uuid;

-- That somebody was erased. While others were not told yet, it is the message that is to be sent.
CREATE TABLE erasure (
    id             uuid PRIMARY KEY,
    integration_no int NOT NULL REFERENCES integration,
    key            uuid NOT NULL,            -- `hide_id`
    apply_no       bigint NOT NULL,          -- the step products learn it from
    reason         text NOT NULL,
    by             text NOT NULL,
    at             timestamptz NOT NULL DEFAULT now(),
    counts         jsonb NOT NULL,           -- {table: rows that went or were cleaned}
    outbox         jsonb,                    -- what others are to be told; null once they were
    told_at        timestamptz,
    cleared_at     timestamptz               -- when the last of it, the blank records products are told by, went
);
CREATE INDEX ON erasure (integration_no, key);
CREATE INDEX ON erasure (at) WHERE outbox IS NOT NULL;
CREATE INDEX ON erasure (apply_no) WHERE cleared_at IS NULL;

-- Who is not let in again as long as the district still has them, and which enrollments were theirs.
CREATE TABLE erased (
    integration_no int NOT NULL REFERENCES integration,
    collection     text NOT NULL CHECK (collection IN ('users', 'enrollments')),
    key            uuid NOT NULL,
    erasure_id     uuid NOT NULL REFERENCES erasure,
    since          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (integration_no, collection, key)
);
CREATE INDEX ON erased (erasure_id);

SELECT guard_table('erasure'), guard_table('erased');

-- ── retention ────────────────────────────────────────────────────────────────────────────────────────────────────

-- Tombstones by age. A first load has none and pays nothing.
DO $$
DECLARE collection text;
BEGIN
    FOREACH collection IN ARRAY ARRAY['orgs', 'academic_sessions', 'courses', 'classes', 'users', 'enrollments', 'demographics']
    LOOP
        EXECUTE format('CREATE INDEX ON %I (changed_by) WHERE NOT active', collection);
    END LOOP;
END $$;
CREATE INDEX ON account (deleted_at) WHERE deleted_at IS NOT NULL;
