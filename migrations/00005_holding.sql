-- +goose Up

-- How many events of a type, and bytes of data, a block of the log holds, so
-- that nothing has to be counted by reading the log. A block is 16384 offsets.
CREATE TABLE rowcall.log_blocks (
  block  bigint NOT NULL,   -- "offset" / 16384
  type   text   NOT NULL,   -- '': the types beyond the first 200 of the block
  events bigint NOT NULL,
  bytes  bigint NOT NULL,
  PRIMARY KEY (block, type)
);

-- Whoever locks the row counts; what is below next is in log_blocks.
CREATE TABLE rowcall.log_counted (
  one  boolean PRIMARY KEY DEFAULT true CHECK (one),
  next bigint NOT NULL
) WITH (fillfactor = 25);
INSERT INTO rowcall.log_counted (next) SELECT oldest FROM rowcall.log_head;

-- What is below next was in the log at this time: how long an event has been
-- here, whatever the clock of its source says. Thinned out with age.
CREATE TABLE rowcall.log_times (
  at   timestamptz PRIMARY KEY,
  next bigint NOT NULL
);
