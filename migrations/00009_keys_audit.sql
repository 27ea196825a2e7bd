-- +goose Up

-- Labels restrict a key to subscriptions that have them all.
ALTER TABLE rowcall.api_keys
  ADD COLUMN labels     jsonb NOT NULL DEFAULT '{}',
  ADD COLUMN created_by text  NOT NULL DEFAULT '';

-- What was changed through the API, a row in the transaction of each change. It
-- is never pruned, and takes inserts alone.
CREATE TABLE rowcall.audit (
  id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at     timestamptz NOT NULL DEFAULT now(),
  actor  text  NOT NULL,             -- id of the key
  remote text  NOT NULL DEFAULT '',  -- address that the request came from
  action text  NOT NULL,             -- operationId of the route
  object text  NOT NULL DEFAULT '',
  before jsonb,                      -- members that differ, without secrets
  after  jsonb
);
CREATE INDEX audit_object ON rowcall.audit (object, id);
CREATE INDEX audit_actor ON rowcall.audit (actor, id);

-- +goose StatementBegin
CREATE FUNCTION rowcall.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'rowcall.audit takes inserts alone';
END $$;
-- +goose StatementEnd
CREATE TRIGGER audit_inserts_alone BEFORE UPDATE OR DELETE OR TRUNCATE ON rowcall.audit
  FOR EACH STATEMENT EXECUTE FUNCTION rowcall.refuse_change();
