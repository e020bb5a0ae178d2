-- Connections as admins look after them: metadata that is read again, certificates that run out, test sign-ins; and the
-- audit log of this service.

-- ── upstreams ────────────────────────────────────────────────────────────────────────────────────────────────────

ALTER TABLE upstream
    ADD COLUMN certificate_ends timestamptz[] NOT NULL DEFAULT '{}', -- when each pinned certificate runs out
    ADD COLUMN secret_since timestamptz;                             -- when the client secret was entered

CREATE INDEX upstream_with_certificates ON upstream (id) WHERE deleted_at IS NULL AND certificate_ends <> '{}';

CREATE INDEX connection_in_order ON connection (id) WHERE deleted_at IS NULL;
CREATE INDEX connection_of_upstream ON connection (upstream_id) WHERE deleted_at IS NULL;
CREATE INDEX upstream_shared_in_order ON upstream (id) WHERE shared AND deleted_at IS NULL;

-- Metadata that is read again every day.
CREATE TABLE metadata_reading (
    upstream_id   uuid PRIMARY KEY REFERENCES upstream,
    due_at        timestamptz NOT NULL,
    read_at       timestamptz,        -- when it could be read last
    failing_since timestamptz,        -- since when it can't
    problem       text                -- why not, in our words
);
CREATE INDEX ON metadata_reading (due_at);

-- What metadata says now that is not what was accepted. It changes nothing until somebody approves it.
CREATE TABLE metadata_change (
    upstream_id  uuid PRIMARY KEY REFERENCES upstream,
    hash         text NOT NULL,       -- of `found`: what is approved is what was looked at
    found        jsonb NOT NULL,      -- `sso.connections.metadata_changes.Found`
    found_at     timestamptz NOT NULL DEFAULT now(),
    discarded_at timestamptz          -- not shown again while the metadata stays the same
);

-- Which warnings were told of as an alert.
CREATE TABLE warning_told (
    upstream_id uuid NOT NULL REFERENCES upstream,
    about       text NOT NULL,        -- which warning, and of what: a later certificate's is another one
    told_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (upstream_id, about)
);

-- A connection with all that is shown of it.
CREATE VIEW connection_view AS
SELECT connection.id, connection.organization_id, organization.name AS organization_name, connection.upstream_id,
    upstream.kind, connection.name, connection.tenant, connection.integration_id,
    coalesce(integration.deleted, false) AS integration_deleted, connection.person_field, connection.rostering,
    connection.max_roster_age_hours, connection.enabled, connection.created_at,
    CASE WHEN upstream.shared THEN connection.updated_at ELSE greatest(connection.updated_at, upstream.updated_at) END
        AS updated_at,
    upstream.shared, upstream.name AS upstream_name, upstream.enabled AS upstream_enabled, upstream.product_id,
    upstream.config, upstream.revision, upstream.sealed_secret, upstream.sealed_key, upstream.secret_since,
    upstream.certificate_ends, metadata_reading.read_at, metadata_reading.failing_since, metadata_reading.problem,
    metadata_change.hash AS change_hash, metadata_change.found_at AS change_found_at,
    metadata_change.hash IS NOT NULL
        OR metadata_reading.failing_since < now() - interval '1 day'
        OR EXISTS (SELECT FROM unnest(upstream.certificate_ends) AS one WHERE one < now() + interval '60 days')
        OR coalesce((upstream.config ->> 'allow_sha1_until')::timestamptz > now(), false) AS warned
FROM connection
JOIN upstream ON upstream.id = connection.upstream_id
LEFT JOIN organization ON organization.id = connection.organization_id
LEFT JOIN integration ON integration.id = connection.integration_id
LEFT JOIN metadata_reading ON metadata_reading.upstream_id = upstream.id
LEFT JOIN metadata_change ON metadata_change.upstream_id = upstream.id AND metadata_change.discarded_at IS NULL
WHERE connection.deleted_at IS NULL;

-- Sign-ins that try a connection out.
CREATE TABLE test_sign_in (
    id            uuid PRIMARY KEY,
    connection_id uuid NOT NULL REFERENCES connection,
    token_hash    bytea NOT NULL UNIQUE,
    by            text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz NOT NULL,
    opened_at     timestamptz,        -- its address works once
    support_id    text,               -- of the launch
    ended_at      timestamptz,
    result        jsonb               -- names of claims and words of ours
);
CREATE INDEX ON test_sign_in (expires_at);
CREATE INDEX ON test_sign_in (connection_id);

-- ── the audit log ────────────────────────────────────────────────────────────────────────────────────────────────

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
