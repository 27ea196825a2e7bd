-- +goose Up

-- Events that a lane held for too long: the log's from "from" up to past that
-- match patterns and filter, but for the ranges of settled (from, past, …).
CREATE TABLE rowcall.dead_ranges (
  id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  lane       integer NOT NULL REFERENCES rowcall.cursors ON DELETE CASCADE,
  "from"     bigint NOT NULL,
  past       bigint NOT NULL,
  settled    bigint[] NOT NULL DEFAULT '{}',
  patterns   text[] NOT NULL,
  filter     text,
  events     bigint NOT NULL,                   -- that match the patterns
  bytes      bigint NOT NULL,
  reason     text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now() -- when it last grew
);
CREATE INDEX dead_ranges_lane ON rowcall.dead_ranges (lane);

-- Events of dead ranges that the log has dropped, in partitions with the bounds
-- of those that the log had.
CREATE TABLE rowcall.kept_events (LIKE rowcall.events INCLUDING ALL) PARTITION BY RANGE ("offset");
CREATE TABLE rowcall.kept_partitions (
  first bigint PRIMARY KEY,
  past  bigint NOT NULL,
  name  text NOT NULL
);

ALTER TABLE rowcall.cursors
  ADD COLUMN given_up  bigint NOT NULL DEFAULT 0,  -- events of dead ranges that a person gave up
  ADD COLUMN dropped   bigint NOT NULL DEFAULT 0,  -- events given up by a limit
  ADD COLUMN expired   bigint NOT NULL DEFAULT 0,  -- dead letters that reached their retention
  ADD COLUMN must_pass bigint NOT NULL DEFAULT 0;  -- the log is full: its owner is to give up what is below
