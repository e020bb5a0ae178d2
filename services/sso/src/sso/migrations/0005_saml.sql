-- SAML: what stands between two requests of one browser.

-- Somebody whose assertion was just verified. It was posted from the portal's site, and only on the next step, which is
-- ours, does the browser show whose session it had. For a minute, and lost in a crash at the price of one more click.
CREATE UNLOGGED TABLE saml_arrival (
    token_hash   bytea PRIMARY KEY,
    browser_hash bytea NOT NULL,
    upstream_id  uuid NOT NULL,
    arrival      jsonb NOT NULL,               -- `sso.saml.arriving.Landed`
    expires_at   timestamptz NOT NULL
);
CREATE INDEX ON saml_arrival (expires_at);

-- Logout we asked an identity provider for, and where the browser goes when it is back.
CREATE UNLOGGED TABLE saml_logout (
    request_hash bytea PRIMARY KEY,
    upstream_id  uuid NOT NULL,
    back         text,                         -- an address that was checked when it was kept
    expires_at   timestamptz NOT NULL
);
CREATE INDEX ON saml_logout (expires_at);

-- An identity provider's logout finds sessions by what it called their people.
CREATE INDEX session_of_name_id ON session ((upstream ->> 'name_id')) WHERE upstream ->> 'name_id' IS NOT NULL;
