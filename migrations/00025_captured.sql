-- +goose Up

-- How many events a source has put into the log since it began: what log_counted
-- has passed. Source 0 is rowcall itself, whose notices they are; -1 is what was in
-- the log before sources were told apart.
CREATE TABLE rowcall.captured (
  source integer PRIMARY KEY,
  events bigint NOT NULL
) WITH (fillfactor = 25);
INSERT INTO rowcall.captured (source, events) SELECT -1, next - 1 FROM rowcall.log_counted WHERE next > 1;
