-- +goose Up

-- A key is looked for among what has none by its event: of one subscription, among
-- its own alone.
CREATE INDEX deliveries_keyless_of ON rowcall.deliveries (lane, "offset") WHERE keys = '{}';

-- Of a partial index, the server uses no statistics: without these it takes one
-- delivery of two hundred to have the id that is looked for, and reads them all.
CREATE STATISTICS rowcall.deliveries_event_id ON (event->>'id') FROM rowcall.deliveries;
CREATE STATISTICS rowcall.deliveries_event_lsn ON ((event->>'lsn')::bigint) FROM rowcall.deliveries;
