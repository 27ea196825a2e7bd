-- +goose Up

-- Single values: the check value of the master key, and the like.
CREATE TABLE rowcall.settings (
  name  text PRIMARY KEY,
  value bytea NOT NULL
);

-- ---------------------------------------------------------------- the log --

-- The one row that every append locks and advances: offsets are gapless and
-- commit in order, so a reader at n never misses a row that commits later.
CREATE TABLE rowcall.log_head (
  one            boolean PRIMARY KEY DEFAULT true CHECK (one),
  next           bigint NOT NULL DEFAULT 1,  -- the offset the next event gets
  partitioned_to bigint NOT NULL DEFAULT 1,  -- partitions hold offsets below this
  oldest         bigint NOT NULL DEFAULT 1   -- the oldest offset still kept
) WITH (fillfactor = 10);
INSERT INTO rowcall.log_head DEFAULT VALUES;

-- One row an event, never updated, never deleted: retention drops partitions.
CREATE TABLE rowcall.events (
  "offset"   bigint      NOT NULL,
  lsn        bigint      NOT NULL,  -- commit LSN; 0 for what no source transaction wrote
  ordinal    bigint      NOT NULL,  -- place in its transaction
  time       timestamptz NOT NULL,  -- commit time
  source     integer     NOT NULL,
  generation integer     NOT NULL,
  kind       smallint    NOT NULL,  -- store.Kind
  type       text        NOT NULL,
  key        text        NOT NULL,  -- partitionkey
  old_key    text,                  -- the other key of a key change
  subject    text,                  -- where it cannot be read off the key
  id         text,                  -- where it is not made of generation, lsn, ordinal
  data       bytea       NOT NULL,
  PRIMARY KEY ("offset")
) PARTITION BY RANGE ("offset");
CREATE INDEX events_lsn ON rowcall.events USING brin (lsn) WITH (pages_per_range = 32, autosummarize = on);

-- The spans of the log's partitions, oldest first.
CREATE TABLE rowcall.partitions (
  first      bigint PRIMARY KEY,
  past       bigint NOT NULL,             -- first offset after it
  name       text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  detaching  boolean NOT NULL DEFAULT false
);

-- --------------------------------------------------------- coordination --

-- One row an instance. Lanes and sources name their owner; an owner whose row
-- has expired, or whose epoch moved on, writes nothing any more.
CREATE TABLE rowcall.leases (
  instance      text PRIMARY KEY,
  epoch         bigint NOT NULL,
  floor         bigint NOT NULL DEFAULT 0,  -- every lane of this instance that follows has settled all below
  pid           integer,                    -- the server process of the connection that renews it
  backend_start timestamptz,
  appender_pid   integer,                   -- and of the one that appends: whoever takes over ends both
  appender_start timestamptz,
  expires_at    timestamptz NOT NULL,
  renewed_at    timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 25);

-- --------------------------------------------------------------- sources --

CREATE TABLE rowcall.sources (
  id           integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name         text NOT NULL UNIQUE,
  kind         text NOT NULL DEFAULT 'postgres',
  state        text NOT NULL DEFAULT 'starting',
  reason       text NOT NULL DEFAULT '',
  hint         text NOT NULL DEFAULT '',
  owner        text,
  generation   integer NOT NULL DEFAULT 0,
  system_id    text NOT NULL DEFAULT '',
  timeline     integer NOT NULL DEFAULT 0,
  slot         text NOT NULL DEFAULT '',
  publication  text NOT NULL DEFAULT '',
  intent       boolean NOT NULL DEFAULT false, -- the slot is being created
  heartbeat_at timestamptz,                    -- last heartbeat that came back through the slot
  lag_bytes    bigint,
  wal_status   text NOT NULL DEFAULT '',
  updated_at   timestamptz NOT NULL DEFAULT now()
);

-- What is durable of a source. Narrow, for it moves with every append.
CREATE TABLE rowcall.checkpoints (
  source     integer PRIMARY KEY REFERENCES rowcall.sources ON DELETE CASCADE,
  epoch      bigint NOT NULL DEFAULT 0,
  commit_lsn bigint NOT NULL DEFAULT 0,  -- last transaction in the log, wholly or in part
  ordinal    bigint NOT NULL DEFAULT 0,  -- ordinals below it are in the log
  end_lsn    bigint NOT NULL DEFAULT 0,  -- what ends at or below it is wholly in the log: confirm this
  commit_at  timestamptz
) WITH (fillfactor = 10);

CREATE TABLE rowcall.relations (
  source   integer NOT NULL REFERENCES rowcall.sources ON DELETE CASCADE,
  schema   text NOT NULL,
  name     text NOT NULL,
  identity text NOT NULL,              -- default, index, full, nothing
  captured boolean NOT NULL,
  reason   text NOT NULL DEFAULT '',   -- why it is left out
  remedy   text NOT NULL DEFAULT '',   -- SQL
  key      text[] NOT NULL DEFAULT '{}',
  PRIMARY KEY (source, schema, name)
);

CREATE TABLE rowcall.gaps (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  source      integer NOT NULL REFERENCES rowcall.sources ON DELETE CASCADE,
  at          timestamptz NOT NULL DEFAULT now(),
  reason      text NOT NULL,
  from_lsn    bigint NOT NULL,
  to_lsn      bigint NOT NULL,
  marker      bigint NOT NULL,         -- offset of the marker at which lanes hold
  accepted_at timestamptz,
  accepted_by text
);

-- --------------------------------------------------------- subscriptions --

CREATE TABLE rowcall.subscriptions (
  id           text PRIMARY KEY,
  name         text NOT NULL,
  version      bigint NOT NULL DEFAULT 1,
  state        text NOT NULL DEFAULT 'active',
  state_reason text NOT NULL DEFAULT '',
  spec         jsonb NOT NULL,
  secrets      bytea NOT NULL,        -- sealed
  created_at   timestamptz NOT NULL DEFAULT now(),
  updated_at   timestamptz NOT NULL DEFAULT now(),
  deleted_at   timestamptz
);
CREATE UNIQUE INDEX subscriptions_name ON rowcall.subscriptions (name) WHERE deleted_at IS NULL;

-- One row a lane. Every event below "offset" is settled, or held by a deliveries
-- row; so is every event in the ranges of ahead (from, past, from, past, …).
CREATE TABLE rowcall.cursors (
  lane         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  subscription text NOT NULL REFERENCES rowcall.subscriptions,
  owner        text,
  owner_epoch  bigint NOT NULL DEFAULT 0,        -- of the owner's lease when it claimed the lane
  epoch        bigint NOT NULL DEFAULT 0,        -- grows at every hand-over
  "offset"     bigint NOT NULL,
  ahead        bigint[] NOT NULL DEFAULT '{}',
  following    boolean NOT NULL DEFAULT false,   -- the owner's floor counts where it is higher
  held_ms      bigint NOT NULL DEFAULT 0         -- time in which the lane could not deliver
) WITH (fillfactor = 25);
CREATE INDEX cursors_subscription ON rowcall.cursors (subscription);

-- Only events that could not be delivered at first pass.
CREATE TABLE rowcall.deliveries (
  lane            integer NOT NULL REFERENCES rowcall.cursors ON DELETE CASCADE,
  "offset"        bigint NOT NULL,
  state           text NOT NULL CHECK (state IN ('retrying', 'blocked', 'dead')),
  keys            text[] NOT NULL,
  barrier         text,                  -- the table whose every key it waits for, and holds
  attempts        integer NOT NULL DEFAULT 0,
  due_at          timestamptz,           -- retrying: next try
  first_failed_at timestamptz,
  held_ms         bigint NOT NULL DEFAULT 0, -- the lane's held_ms at the first failure
  reason          text NOT NULL DEFAULT '',
  status          integer NOT NULL DEFAULT 0,
  error           text NOT NULL DEFAULT '',
  updated_at      timestamptz NOT NULL DEFAULT now(),
  event           jsonb,                 -- the event's attributes and
  data            bytea,                 -- payload, once the log has dropped it
  PRIMARY KEY (lane, "offset")
);
CREATE INDEX deliveries_offset ON rowcall.deliveries ("offset");

-- What people ask a lane's owner to do; only the owner changes deliveries.
CREATE TABLE rowcall.intents (
  id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  lane     integer NOT NULL REFERENCES rowcall.cursors ON DELETE CASCADE,
  action   text NOT NULL CHECK (action IN ('retry', 'discard')),
  "offset" bigint NOT NULL,
  actor    text NOT NULL,
  at       timestamptz NOT NULL DEFAULT now()
);

-- History of HTTP tries. Partitioned by day; partitions are made ahead by name
-- attempts_yyyymmdd and dropped after ROWCALL_ATTEMPTS_RETENTION.
CREATE TABLE rowcall.attempts (
  at       timestamptz NOT NULL,   -- when it started
  lane     integer     NOT NULL,
  "offset" bigint      NOT NULL,
  attempt  integer     NOT NULL,   -- 1 is the first try of the event
  duration integer     NOT NULL,   -- µs
  status   smallint    NOT NULL,   -- 0: no response
  outcome  smallint    NOT NULL,   -- dispatch.Outcome's number
  reason   text,                   -- null: delivered
  detail   jsonb                   -- of failures: error, response excerpt, headers, timings
) PARTITION BY RANGE (at);
CREATE INDEX attempts_at ON rowcall.attempts USING brin (at) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX attempts_offset ON rowcall.attempts USING brin ("offset") WITH (pages_per_range = 32, autosummarize = on);

-- ------------------------------------------------------------------ keys --

CREATE TABLE rowcall.api_keys (
  id           text PRIMARY KEY,
  name         text NOT NULL,
  hash         bytea NOT NULL,         -- SHA-256 of the key
  scopes       text[] NOT NULL,
  bootstrap    boolean NOT NULL DEFAULT false, -- follows ROWCALL_API_KEY
  created_at   timestamptz NOT NULL DEFAULT now(),
  expires_at   timestamptz,
  last_used_at timestamptz,
  revoked_at   timestamptz
);
CREATE UNIQUE INDEX api_keys_hash ON rowcall.api_keys (hash);
