-- Every kind of provider: time zones, increments, inquiries, uploads and the inbox's accounts.
ALTER TABLE integration
    ADD COLUMN time_zone text,
    ADD COLUMN secret_names text[],      -- which secrets are sealed; they themselves can't be read here
    ADD COLUMN bookmark jsonb,           -- of the last applied fetch: what the next one may go on from
    ADD COLUMN bookmark_gone text CHECK (bookmark_gone IN ('reset', 'edit', 'sync')), -- why there is none
    ADD COLUMN sftp jsonb;               -- the account in the inbox

UPDATE integration
SET time_zone = CASE region
        WHEN 'au' THEN 'Australia/Perth'
        WHEN 'uk' THEN 'Europe/London'
        WHEN 'nz' THEN 'Pacific/Auckland'
        ELSE 'America/Chicago'
    END,
    secret_names = ARRAY['client_secret'];

ALTER TABLE integration
    ALTER COLUMN time_zone SET NOT NULL,
    ALTER COLUMN secret_names SET NOT NULL;

CREATE UNIQUE INDEX integration_sftp_username ON integration ((sftp ->> 'username'));

CREATE TABLE upload (
    id text PRIMARY KEY,
    number bigint NOT NULL,              -- of the integration's sets, in the order they were received, without gaps
    integration uuid NOT NULL REFERENCES integration,
    via text NOT NULL,
    files int NOT NULL,
    bytes bigint NOT NULL,
    digest text NOT NULL,
    received_at timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'used', 'failed', 'dropped')),
    code text,                           -- why it failed
    UNIQUE (integration, number)
);

CREATE INDEX upload_pending ON upload (integration) WHERE state = 'pending';

ALTER TABLE run
    DROP CONSTRAINT run_mode_check,
    ADD CONSTRAINT run_mode_check CHECK (mode IN ('full', 'delta')),
    ADD COLUMN mode_code text,           -- why the mode is another than was asked for
    ADD COLUMN today date,               -- in the integration's time zone when the run was made
    ADD COLUMN upload text REFERENCES upload;

UPDATE run
SET today = (run.created_at AT TIME ZONE integration.time_zone)::date
FROM integration
WHERE integration.id = run.integration;

ALTER TABLE run ALTER COLUMN today SET NOT NULL;

-- A question to a worker; unanswered and not lately published, it is the message waiting to be sent.
CREATE TABLE inquiry (
    id uuid PRIMARY KEY,
    integration uuid NOT NULL REFERENCES integration,
    kind text NOT NULL CHECK (kind IN ('verify', 'schools')),
    edition int NOT NULL,                -- of the settings it was asked about
    asked_at timestamptz NOT NULL DEFAULT now(),
    deadline_at timestamptz NOT NULL,
    published int NOT NULL DEFAULT 0,    -- how often
    publish_at timestamptz DEFAULT now(), -- when it is published next
    headers jsonb NOT NULL DEFAULT '{}', -- the trace of the request that asked
    answered_at timestamptz,
    code text,
    detail text,
    answer jsonb                         -- findings or schools
);

CREATE UNIQUE INDEX inquiry_pending ON inquiry (integration, kind, edition) WHERE answered_at IS NULL;
CREATE INDEX inquiry_of_integration ON inquiry (integration, kind, asked_at DESC);
CREATE INDEX inquiry_unanswered ON inquiry (asked_at) WHERE answered_at IS NULL;
CREATE INDEX inquiry_asked ON inquiry (asked_at);
