-- +goose Up

-- What is known of a lane's endpoint (store.EndpointHealth); null: nothing that
-- keeps it from being sent to.
ALTER TABLE rowcall.cursors ADD COLUMN health jsonb;

-- The tries that count against an event's budget, of all its attempts.
ALTER TABLE rowcall.deliveries ADD COLUMN charged integer NOT NULL DEFAULT 0;
