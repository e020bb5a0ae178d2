-- Launches that were refused because two people of the roster claim a portal's user: their steps name one of them, so
-- erasures look through them.
CREATE INDEX launch_contested ON launch (integration_id) WHERE code = 'SIGNIN_AMBIGUOUS';
