-- Who is this? What sign-in asks all the time (E4).

-- When the roster was last brought up to date: by a sync that was applied, whether or not it changed anything.
ALTER TABLE integration ADD COLUMN synced_at timestamptz;
DO $$
BEGIN
    PERFORM set_config('homeroom.access', 'work', true);
    UPDATE integration SET synced_at = (
        SELECT max(applied_at) FROM apply WHERE apply.integration_no = integration.no AND kind = 'sync');
    PERFORM set_config('homeroom.access', '', true);
END $$;

-- By what portals know people beside the sourcedId. Active ones come first, so that a value many have had is found as
-- quickly. Compared byte by byte, whatever the database's locale.
CREATE INDEX users_by_identifier ON users (integration_no, identifier COLLATE "C", active)
    WHERE identifier <> '';
CREATE INDEX users_by_master_identifier ON users (integration_no, user_master_identifier COLLATE "C", active)
    WHERE user_master_identifier <> '';
