-- +goose Up

-- Keys that have more events waiting than rows are written for: all of a key's
-- events from "from" on are owed, and read from the log when their turn comes.
CREATE TABLE rowcall.overflows (
  lane   integer NOT NULL REFERENCES rowcall.cursors ON DELETE CASCADE,
  key    text NOT NULL,
  "from" bigint NOT NULL,
  PRIMARY KEY (lane, key)
);
