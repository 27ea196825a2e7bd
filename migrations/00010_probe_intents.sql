-- +goose Up

-- A probe is asked for like a retry; its "offset" is 0, for it is of the lane.
ALTER TABLE rowcall.intents DROP CONSTRAINT intents_action_check;
ALTER TABLE rowcall.intents ADD CONSTRAINT intents_action_check CHECK (action IN ('retry', 'discard', 'probe'));
