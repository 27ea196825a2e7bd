-- +goose Up

-- A session is a short-lived key: it may do what its parent may, for as long as
-- the parent may, and ends by itself when it is not used.
ALTER TABLE rowcall.api_keys ADD COLUMN parent text REFERENCES rowcall.api_keys ON DELETE CASCADE;
CREATE INDEX api_keys_parent ON rowcall.api_keys (parent) WHERE parent IS NOT NULL;
