-- +goose Up

-- A key may be longer than an index takes: it is found by its SHA-256.
ALTER TABLE rowcall.overflows ADD COLUMN digest bytea;
UPDATE rowcall.overflows SET digest = sha256(convert_to(key, 'UTF8'));
ALTER TABLE rowcall.overflows ALTER COLUMN digest SET NOT NULL,
  DROP CONSTRAINT overflows_pkey, ADD PRIMARY KEY (lane, digest);
