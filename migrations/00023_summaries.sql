-- +goose Up

-- Ranges of these indexes are summarized by rowcall itself. Those that the server is
-- to do by itself wait in a queue of 256, which it looks at once a minute: above some
-- megabytes a second it is full, and the server's log gets a line for each range.
-- What a partitioned index says of it cannot be changed, its parts can; new parts are
-- told so when they are made.
-- +goose StatementBegin
DO $$
DECLARE part regclass;
BEGIN
  FOR part IN SELECT i.oid FROM pg_class i WHERE i.relnamespace = 'rowcall'::regnamespace AND i.relkind = 'i' AND 'autosummarize=on' = ANY (i.reloptions) LOOP
    EXECUTE format('ALTER INDEX %s RESET (autosummarize)', part);
  END LOOP;
END $$;
-- +goose StatementEnd
