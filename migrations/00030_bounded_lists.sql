-- +goose Up

-- Within a transaction, ordinals rise with the log: one event of a large transaction is
-- in few ranges that may have both.
CREATE INDEX events_place ON rowcall.events USING brin (lsn, ordinal) WITH (pages_per_range = 32);
DROP INDEX rowcall.events_lsn;
CREATE INDEX kept_events_place ON rowcall.kept_events USING brin (lsn, ordinal) WITH (pages_per_range = 32);
DROP INDEX rowcall.kept_events_lsn_idx;
CREATE INDEX deliveries_event_place ON rowcall.deliveries (((event->>'lsn')::bigint), ((event->>'ordinal')::bigint)) WHERE event IS NOT NULL;
DROP INDEX rowcall.deliveries_event_lsn;

-- A delivery that orders no key is found by its event's, of which it has the hashes:
-- nobody looks up the events of all that order none.
ALTER TABLE rowcall.deliveries ADD COLUMN key_hash bigint, ADD COLUMN old_key_hash bigint;
DROP INDEX rowcall.deliveries_key, rowcall.deliveries_second_key, rowcall.deliveries_keyless, rowcall.deliveries_keyless_of;
UPDATE rowcall.deliveries d SET key_hash = hashtextextended(event->>'key', 0), old_key_hash = hashtextextended(event->>'old_key', 0)
WHERE cardinality(keys) = 0 AND event IS NOT NULL;
UPDATE rowcall.deliveries d SET key_hash = hashtextextended(e.key, 0), old_key_hash = hashtextextended(e.old_key, 0)
FROM (SELECT "offset", key, old_key FROM rowcall.events UNION ALL SELECT "offset", key, old_key FROM rowcall.kept_events) e
WHERE cardinality(d.keys) = 0 AND d.event IS NULL AND e."offset" = d."offset";
CREATE INDEX deliveries_key ON rowcall.deliveries (coalesce(key_hash, hashtextextended(keys[1], 0)), "offset", lane);
CREATE INDEX deliveries_second_key ON rowcall.deliveries (coalesce(old_key_hash, hashtextextended(keys[2], 0)), "offset", lane)
WHERE coalesce(old_key_hash, hashtextextended(keys[2], 0)) IS NOT NULL;

-- What a range has: the keys of events, and the lanes and outcomes of attempts. A key or
-- a lane that few ranges have is found without a look at all others.
CREATE INDEX events_key ON rowcall.events USING brin ("offset", key text_bloom_ops(n_distinct_per_range = 1000), old_key) WITH (pages_per_range = 32);
CREATE INDEX attempts_of ON rowcall.attempts USING brin (at, lane int4_bloom_ops(n_distinct_per_range = 1000), outcome) WITH (pages_per_range = 32);
