-- +goose Up

-- A key may be longer than an index takes: it is found by its SHA-256.
ALTER TABLE rowcall.overflows ADD COLUMN digest bytea;
UPDATE rowcall.overflows SET digest = sha256(convert_to(key, 'UTF8'));
ALTER TABLE rowcall.overflows ALTER COLUMN digest SET NOT NULL,
  DROP CONSTRAINT overflows_pkey, ADD PRIMARY KEY (lane, digest);

-- Whether anything names a version of a table still is asked in each round of
-- retention. A delivery without its event is in no index for it.
CREATE INDEX deliveries_relation ON rowcall.deliveries (((event->>'relation')::integer)) WHERE event IS NOT NULL;
CREATE INDEX kept_events_relation ON rowcall.kept_events (relation);
