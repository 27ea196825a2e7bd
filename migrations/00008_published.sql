-- +goose Up

-- What a publisher gave of an event beyond type, key, subject, id and data: its
-- source, time and extension attributes (store.Given, JSON); null: nothing.
ALTER TABLE rowcall.events ADD COLUMN given text;

-- The events that were published of late: one that comes again is known by it.
CREATE TABLE rowcall.published_ids (
  id       bytea       NOT NULL,  -- 16 bytes of SHA-256 over source, NUL, id: those of the webhook-id
  "offset" bigint      NOT NULL,
  at       timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (id) INCLUDE ("offset")  -- the appender plans without scans of tables
);
CREATE INDEX published_ids_at ON rowcall.published_ids (at);
