-- +goose Up

-- How HTTP tries went, by the time at which they ended: what charts are made of,
-- so that nobody reads the history for them. Each try counts in every step.
CREATE TABLE rowcall.attempt_counts (
  step      integer     NOT NULL,  -- seconds
  lane      integer     NOT NULL,  -- 0: of all
  at        timestamptz NOT NULL,  -- when the step begins
  took      smallint    NOT NULL,  -- which of the store's bounds of duration
  delivered bigint      NOT NULL,
  failed    bigint      NOT NULL,  -- whatever else became of it
  PRIMARY KEY (step, lane, at, took)
) WITH (fillfactor = 50);

-- Whoever locks the row counts; what was saved before the mark, a pg_snapshot, is
-- in attempt_counts.
CREATE TABLE rowcall.attempts_counted (
  one  boolean PRIMARY KEY DEFAULT true CHECK (one),
  mark text        NOT NULL,
  at   timestamptz NOT NULL
) WITH (fillfactor = 25);
INSERT INTO rowcall.attempts_counted (mark, at) SELECT pg_current_snapshot()::text, now();
