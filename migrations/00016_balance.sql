-- +goose Up

-- What became of a lane's events, all in all. The first five are its owner's,
-- written with what they count; the last two are of retries of dead ranges whose
-- lanes are gone. What is dead, retried or blocked has a row in deliveries.
ALTER TABLE rowcall.cursors
  ADD COLUMN delivered   bigint NOT NULL DEFAULT 0,
  ADD COLUMN filtered    bigint NOT NULL DEFAULT 0, -- not wanted when their turn came; most are not counted: see books
  ADD COLUMN discarded   bigint NOT NULL DEFAULT 0, -- deliveries that a person gave up
  ADD COLUMN compacted   bigint NOT NULL DEFAULT 0, -- superseded by a newer event of their key
  ADD COLUMN overflowed  bigint NOT NULL DEFAULT 0, -- passed, and owed by a row in overflows alone
  ADD COLUMN redelivered bigint NOT NULL DEFAULT 0,
  ADD COLUMN refiltered  bigint NOT NULL DEFAULT 0;

-- From when on a lane's events are counted by the log: those of the types that
-- patterns match are matched, and what log_blocks has from block on. Opened anew
-- where the subscription wants other events.
CREATE TABLE rowcall.books (
  lane     integer PRIMARY KEY REFERENCES rowcall.cursors ON DELETE CASCADE,
  block    bigint  NOT NULL,
  matched  bigint  NOT NULL,
  filtered bigint  NOT NULL DEFAULT 0, -- by filters that are in force no more
  patterns text[]  NOT NULL,
  filter   text                        -- null: every event of these types is wanted
);

-- Offsets (from, past, …) of which the key is owed nothing: a dead range has them,
-- or they were dropped.
ALTER TABLE rowcall.overflows ADD COLUMN skip bigint[] NOT NULL DEFAULT '{}';

-- The replay that delivers the range again; null: nobody asked for it.
ALTER TABLE rowcall.dead_ranges ADD COLUMN job text REFERENCES rowcall.jobs ON DELETE SET NULL;

-- Of lanes that owe events to overflowed keys already.
UPDATE rowcall.cursors c SET overflowed = n.events
FROM (SELECT o.lane, count(DISTINCT e."offset") AS events
  FROM rowcall.overflows o
  JOIN rowcall.cursors own ON own.lane = o.lane
  JOIN rowcall.events e ON e."offset" >= o."from" AND e."offset" < own."offset" AND (e.key = o.key OR e.old_key = o.key)
  GROUP BY o.lane) n
WHERE c.lane = n.lane;
