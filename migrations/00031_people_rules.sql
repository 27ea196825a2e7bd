-- +goose Up

-- By which settings a person was given what they may do: where others are in force,
-- their sessions do not count.
ALTER TABLE rowcall.api_keys ADD COLUMN rules text;
