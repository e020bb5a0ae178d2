-- Accounts of products and whom they belong to (D3).

-- An address as it is compared: without space around it, in one Unicode form and in small letters. The letters are
-- Unicode's whatever the database's locale is. Tags (`+x`) and dots stay: they make another address.
CREATE FUNCTION normal_address(email text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN nullif(lower(normalize(btrim(email, E' \t\r\n\u00a0\u200b\ufeff'), NFC) COLLATE pg_catalog.pg_c_utf8), '');

-- Why nobody may be matched by an address, given as `normal_address` gives it; null if somebody may. The same as
-- `roster_store.matching.addresses.find_fault`, which says why each rule is there.
CREATE FUNCTION find_address_fault(address text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE
        WHEN address IS NULL THEN 'no_email'
        WHEN length(address) > 320 OR address !~ '^[^\s@]+@[^\s@]+$' THEN 'placeholder_email'
        WHEN address ~ '\*\*|[•█]' OR address ~ '^(x{3,}([-.]x+)*|masked|redacted|obfuscated|hidden|confidential)@' OR address ~ '@(x{3,}|masked|redacted|hidden)(\.|$)' THEN 'placeholder_email'
        WHEN address ~ '^(no-?reply|do-?not-?reply|none|null|nil|n/?a|no-?e?-?mail|not-?provided|unknown|undefined|anonymous|nobody|noone|test[0-9]*|testing|tester|test-?user|dummy|fake|sample|example|placeholder)@' THEN 'placeholder_email'
        WHEN address ~ '@([^@]*\.)?(example\.(com|net|org|edu)|(none|null|noemail|no-email|nomail|noreply|placeholder|localhost|invalid|test)(\.[a-z]{2,3})?)$' THEN 'placeholder_email'
        WHEN address !~ '@[^@]+\.[^@.]+$' THEN 'placeholder_email'
    END;

-- What addresses are compared by: who reads these tables without the roster learns none.
CREATE FUNCTION digest_address(address text) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
    RETURN sha256(convert_to(address, 'UTF8'));

-- The active people of organizations in which accounts are matched, as matching sees them; brought up to date by each
-- apply that changes people. `joined_…` names whom of the SIS a person of Google Classroom is.
CREATE TABLE rostered_person (
    integration_no        int NOT NULL,
    sourced_id            text COLLATE "C" NOT NULL,
    organization_id       uuid NOT NULL,
    address               bytea,           -- of the e-mail address; null if nobody may be matched by it
    fault                 text,            -- then why not
    student               boolean NOT NULL,
    teacher               boolean NOT NULL,
    staff                 boolean NOT NULL, -- teachers and everybody else who is neither student nor guardian
    guardian              boolean NOT NULL,
    joined_integration_no int,
    joined_sourced_id     text COLLATE "C",
    PRIMARY KEY (integration_no, sourced_id),
    CHECK ((address IS NULL) = (fault IS NOT NULL)),
    CHECK ((joined_integration_no IS NULL) = (joined_sourced_id IS NULL))
);
CREATE INDEX ON rostered_person (organization_id, address) WHERE address IS NOT NULL;
CREATE INDEX ON rostered_person (organization_id, sourced_id);
CREATE INDEX ON rostered_person (joined_integration_no, joined_sourced_id) WHERE joined_integration_no IS NOT NULL;

-- Organizations whose people are kept there, from when on.
CREATE TABLE matched_organization (
    organization_id uuid PRIMARY KEY,
    since           timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE account (
    no              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id              uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
    product_id      uuid NOT NULL,
    organization_id uuid NOT NULL,
    external_id     text COLLATE "C",      -- the product's own; null for one made here that it has not taken up yet
    email           text,                  -- as the product gave it
    address         bytea,                 -- what it is matched by; null if it may not be
    role            text CHECK (role IN ('student', 'teacher', 'staff', 'guardian')),
    integration_id  uuid,                  -- whom the product knows it belongs to
    sourced_id      text COLLATE "C",
    active          boolean NOT NULL DEFAULT true,
    origin          text NOT NULL CHECK (origin IN ('product', 'roster')),
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    deleted_at      timestamptz,           -- what is deleted keeps its id and external_id, and nothing else
    UNIQUE (product_id, organization_id, external_id)
);
CREATE INDEX ON account (product_id, organization_id, no) WHERE deleted_at IS NULL;
-- Matching looks accounts up by these. They do not begin with the product: while a first upload runs there are no
-- statistics, and Postgres would take all accounts of a product for one.
CREATE INDEX ON account (address, organization_id) WHERE address IS NOT NULL AND deleted_at IS NULL;
CREATE INDEX ON account (organization_id, sourced_id) WHERE sourced_id IS NOT NULL AND deleted_at IS NULL;

-- Whose an account is: one person an account, one account of a product a person. Stays when the person leaves.
CREATE TABLE account_link (
    account_no     bigint PRIMARY KEY REFERENCES account,
    product_id     uuid NOT NULL,
    integration_no int NOT NULL,
    sourced_id     text COLLATE "C" NOT NULL,
    how            text NOT NULL CHECK (how IN ('manual', 'sourced_id', 'email', 'created')),
    since          timestamptz NOT NULL DEFAULT now(),
    by             text,                   -- the caller, for what was done by hand
    UNIQUE (product_id, integration_no, sourced_id)
);

-- Pairs that somebody took apart: they are not matched by themselves again.
CREATE TABLE barred_link (
    account_no     bigint NOT NULL REFERENCES account,
    product_id     uuid NOT NULL,
    integration_no int NOT NULL,
    sourced_id     text COLLATE "C" NOT NULL,
    at             timestamptz NOT NULL DEFAULT now(),
    by             text NOT NULL,
    PRIMARY KEY (account_no, integration_no, sourced_id)
);
CREATE INDEX ON barred_link (product_id, integration_no, sourced_id);

-- What became of links, in order; only ever added to, but for erasure.
CREATE TABLE link_event (
    no             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at             timestamptz NOT NULL DEFAULT now(),
    account_no     bigint NOT NULL,
    product_id     uuid NOT NULL,
    integration_no int NOT NULL,
    sourced_id     text COLLATE "C" NOT NULL,
    event          text NOT NULL CHECK (event IN ('linked', 'unlinked')),
    how            text NOT NULL CHECK (how IN ('manual', 'sourced_id', 'email', 'created', 'moved', 'joined', 'replaced', 'deleted')),
    by             text
);
CREATE INDEX ON link_event (account_no, no);
CREATE INDEX ON link_event (integration_no, sourced_id);

-- People a product may see who have no account of it, and why.
CREATE TABLE unmatched_person (
    product_id     uuid NOT NULL,
    integration_no int NOT NULL,
    sourced_id     text COLLATE "C" NOT NULL,
    reason         text NOT NULL CHECK (reason IN (
        'no_email', 'unknown', 'shared_email', 'placeholder_email', 'ambiguous', 'role_conflict', 'account_taken', 'unlinked')),
    candidates     bigint[] NOT NULL DEFAULT '{}', -- accounts that may be theirs; ten at most
    since          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (product_id, integration_no, sourced_id)
);
CREATE INDEX ON unmatched_person (product_id, reason, integration_no, sourced_id);

SELECT guard_table(name) FROM unnest(ARRAY[
    'rostered_person', 'matched_organization', 'account', 'account_link', 'barred_link', 'link_event', 'unmatched_person'
]) AS name;
