-- +goose Up

-- Requests that came with an Idempotency-Key, for a day: one that comes again has
-- no effect, and gets the answer of the first.
CREATE TABLE rowcall.idempotency (
  actor       text        NOT NULL,             -- id of the key that asked
  key         text        NOT NULL,
  fingerprint bytea       NOT NULL,             -- SHA-256 of what was asked
  claim       bigint      NOT NULL DEFAULT 1,   -- grows when somebody else takes it up
  claimed_at  timestamptz NOT NULL DEFAULT now(),
  object      text        NOT NULL DEFAULT '',  -- what was changed, in the transaction of the change
  answer      bytea,                            -- sealed; null: none yet
  created_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (actor, key)
);
CREATE INDEX idempotency_created ON rowcall.idempotency (created_at);
