-- +goose Up

-- Why somebody made a change, in the person's own words.
ALTER TABLE rowcall.audit ADD COLUMN note text NOT NULL DEFAULT '';

-- A list by action, or of a time span in which little happened, reads no more
-- than it shows.
CREATE INDEX audit_action ON rowcall.audit (action, id);
CREATE INDEX audit_at ON rowcall.audit USING brin (at) WITH (pages_per_range = 32, autosummarize = on);
