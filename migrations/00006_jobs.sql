-- +goose Up

-- Long work that people asked for. A bulk retry or discard goes through the
-- deliveries in the order of (lane, "offset") and leaves intents for the lanes'
-- owners; a replay is a lane of its own.
CREATE TABLE rowcall.jobs (
  n            bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
  id           text PRIMARY KEY,          -- job_…, or rpl_… of a replay
  kind         text NOT NULL CHECK (kind IN ('retry', 'discard', 'replay')),
  state        text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'paused', 'done', 'cancelled', 'failed')),
  reason       text NOT NULL DEFAULT '',  -- why it failed
  version      bigint NOT NULL DEFAULT 1, -- grows with every change of state
  subscription text NOT NULL DEFAULT '',  -- '': of all
  spec         jsonb NOT NULL,            -- which deliveries, or which events and how
  total        bigint NOT NULL,           -- what there was to do when it was made
  at_least     boolean NOT NULL,          -- total is no more than was counted in time
  bytes        bigint NOT NULL DEFAULT 0, -- of the events of a replay
  done         bigint NOT NULL DEFAULT 0,
  failed       bigint NOT NULL DEFAULT 0, -- events of a replay that are dead letters
  skipped      bigint NOT NULL DEFAULT 0, -- what had ended, or changed, in the meantime
  at_lane      integer NOT NULL DEFAULT 0, -- of a bulk job: up to (at_lane, at_offset) all were asked for
  at_offset    bigint NOT NULL DEFAULT 0,
  asked        boolean NOT NULL DEFAULT false, -- all were
  lane         integer,                   -- of a replay; its row in cursors may be gone
  created_by   text NOT NULL,
  created_at   timestamptz NOT NULL DEFAULT now(),
  updated_at   timestamptz NOT NULL DEFAULT now(),
  ended_at     timestamptz
) WITH (fillfactor = 50);
CREATE INDEX jobs_unended ON rowcall.jobs (n) WHERE ended_at IS NULL;
CREATE INDEX jobs_lane ON rowcall.jobs (lane) WHERE lane IS NOT NULL;

ALTER TABLE rowcall.intents ADD COLUMN job text REFERENCES rowcall.jobs ON DELETE CASCADE;
CREATE INDEX intents_job ON rowcall.intents (job) WHERE job IS NOT NULL;

-- The replay that a lane is; null: the subscription's own lane.
ALTER TABLE rowcall.cursors ADD COLUMN replay text REFERENCES rowcall.jobs;
