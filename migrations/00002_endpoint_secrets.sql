-- +goose Up

-- The secrets of endpoint.auth and endpoint.tls, sealed under a place of their
-- own, and when the signing secrets after the first end; null: never.
ALTER TABLE rowcall.subscriptions
  ADD COLUMN endpoint_secrets bytea NOT NULL DEFAULT '',
  ADD COLUMN previous_ends    timestamptz;
