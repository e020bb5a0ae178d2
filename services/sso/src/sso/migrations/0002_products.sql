-- Clients of products, and secrets that are exchanged while the old one still holds.

ALTER TABLE client
    ADD COLUMN product_id uuid,             -- the product it belongs to: its tokens see what that is licensed for
    -- The secret before, which holds until that moment. There is never a third.
    ADD COLUMN previous_hash bytea CHECK (length(previous_hash) = 32),
    ADD COLUMN previous_until timestamptz,
    ADD COLUMN secret_used boolean NOT NULL DEFAULT false,  -- whether anybody ever came with the newest secret
    ADD COLUMN declared boolean NOT NULL DEFAULT false,     -- by the operator's settings, which hold again at each start
    ADD CHECK ((previous_hash IS NULL) = (previous_until IS NULL));

UPDATE client SET secret_used = last_used_at IS NOT NULL;

CREATE INDEX client_of_product ON client (product_id, id) WHERE product_id IS NOT NULL;
