-- +goose Up

-- Columns as the catalogue has them: for judging expressions before any event came.
ALTER TABLE rowcall.relations
  ADD COLUMN columns text[] NOT NULL DEFAULT '{}',
  ADD COLUMN types   text[] NOT NULL DEFAULT '{}';

-- Tables as the stream described them. Events name the version that they were
-- made under, so that their values have types after a restart, and over a
-- backlog that is older than an ALTER TABLE.
CREATE TABLE rowcall.relation_versions (
  version    integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  source     integer NOT NULL REFERENCES rowcall.sources ON DELETE CASCADE,
  shape      bytea NOT NULL,           -- digest of what follows: the same shape is the same version
  schema     text NOT NULL,
  name       text NOT NULL,
  identity   text NOT NULL,
  key        text[] NOT NULL,
  columns    text[] NOT NULL,
  types      text[] NOT NULL,          -- of columns: domains as their base, arrays with "[]"
  past       bigint,                   -- no event from this offset on names it; null: one may yet
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (source, shape)
);

ALTER TABLE rowcall.events ADD COLUMN relation integer NOT NULL DEFAULT 0; -- relation_versions.version; 0: none

ALTER TABLE rowcall.deliveries
  ADD COLUMN version  bigint NOT NULL DEFAULT 0, -- of the subscription whose filter or transform failed on it
  ADD COLUMN ordering text NOT NULL DEFAULT '';  -- which ordering its keys are of
