-- +goose Up

-- Whose configuration declares a subscription; empty: none does.
ALTER TABLE rowcall.subscriptions ADD COLUMN managed_by text NOT NULL DEFAULT '';
CREATE INDEX subscriptions_managed ON rowcall.subscriptions (managed_by) WHERE managed_by <> '' AND deleted_at IS NULL;

-- A person who signs in elsewhere is a row that no key leads to: who it is by
-- issuer and subject. Its sessions are those of any key.
ALTER TABLE rowcall.api_keys ADD COLUMN person text;
CREATE UNIQUE INDEX api_keys_person ON rowcall.api_keys (person) WHERE person IS NOT NULL;
