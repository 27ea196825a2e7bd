-- +goose Up

-- The types of the events that a source has ever put into the log, as far as
-- log_counted has passed them: of which sources a subscription has events.
CREATE TABLE rowcall.source_types (
  source integer NOT NULL,
  type   text    NOT NULL,  -- '': the types beyond the first 1,000 of the source
  PRIMARY KEY (source, type)
);
INSERT INTO rowcall.source_types (source, type)
SELECT DISTINCT e.source, e.type FROM rowcall.events e, rowcall.log_counted n WHERE e."offset" < n.next AND e.kind <> 6;

-- Of the events that it counts by patterns that are in force no more.
ALTER TABLE rowcall.books ADD COLUMN sources integer[] NOT NULL DEFAULT '{}';
