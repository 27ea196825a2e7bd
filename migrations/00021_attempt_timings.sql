-- +goose Up

-- How long the stages of an attempt took: up to four unsigned varints of µs, of
-- first byte, connect, TLS and DNS, without the zeros at the end. Over a connection
-- that was there it is the first byte alone, in two or three bytes. Null: not known.
ALTER TABLE rowcall.attempts ADD COLUMN timings bytea;
