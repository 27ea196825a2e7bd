-- +goose Up

-- Lists of deliveries go by offset and lane. Beside all of them, those that are not
-- dead, and those of a key, are found without a look at a million dead letters. A
-- key may be longer than an index takes, and there may be two.
CREATE INDEX deliveries_order ON rowcall.deliveries ("offset", lane);
DROP INDEX rowcall.deliveries_offset;
CREATE INDEX deliveries_open ON rowcall.deliveries ("offset", lane) WHERE state <> 'dead';
CREATE INDEX deliveries_key ON rowcall.deliveries (hashtextextended(keys[1], 0), "offset", lane) WHERE keys[1] IS NOT NULL;
CREATE INDEX deliveries_second_key ON rowcall.deliveries (hashtextextended(keys[2], 0), "offset", lane) WHERE keys[2] IS NOT NULL;
CREATE INDEX deliveries_keyless ON rowcall.deliveries ("offset", lane) WHERE cardinality(keys) = 0;

-- Dead letters of late, and those that have reached their retention.
CREATE INDEX deliveries_died ON rowcall.deliveries (updated_at) WHERE state = 'dead';

-- An event of which the log has nothing any more is looked for by its id, or by its
-- place in the source, which is in its id.
CREATE INDEX deliveries_event_lsn ON rowcall.deliveries (((event->>'lsn')::bigint)) WHERE event IS NOT NULL;
CREATE INDEX deliveries_event_id ON rowcall.deliveries USING hash ((event->>'id')) WHERE event->>'id' IS NOT NULL;
