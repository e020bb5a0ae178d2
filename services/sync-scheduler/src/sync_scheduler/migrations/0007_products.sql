-- How products want their classes and people, what licenses cover, both told to others; how people of a run were matched.

ALTER TABLE product
    ADD COLUMN classes text NOT NULL DEFAULT 'automatic' CHECK (classes IN ('automatic', 'teacher-started')),
    ADD COLUMN unmatched text NOT NULL DEFAULT 'list' CHECK (unmatched IN ('list', 'create')),
    ADD COLUMN deleted_at timestamptz,   -- kept for ever after, for its licenses and their history
    ADD COLUMN version int NOT NULL DEFAULT 1,
    ADD COLUMN published_version int NOT NULL DEFAULT 0;

CREATE INDEX product_unpublished ON product (position) WHERE published_version < version;

ALTER TABLE license
    ADD COLUMN schools text[] CHECK (cardinality(schools) > 0), -- sourcedIds; null for the whole organization
    ADD COLUMN grants text[] NOT NULL DEFAULT '{grades,identifiers}',
    ADD COLUMN version int NOT NULL DEFAULT 1,
    ADD COLUMN published_version int NOT NULL DEFAULT 0;

CREATE INDEX license_unpublished ON license (position) WHERE published_version < version;
CREATE INDEX license_of_product ON license (product, position);

-- How people stand with each product that keeps accounts, afterwards.
ALTER TABLE run ADD COLUMN matching jsonb NOT NULL DEFAULT '[]';
