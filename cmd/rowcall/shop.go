package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

// shop is the demo's application: it writes rows as a small shop would, and
// knows nothing of rowcall.
type shop struct {
	conn *pgx.Conn
}

const shopSchema = `
CREATE TABLE customers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL);
CREATE TABLE orders (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	customer_id bigint NOT NULL REFERENCES customers,
	item text NOT NULL,
	total numeric(10,2) NOT NULL,
	status text NOT NULL DEFAULT 'new',
	placed_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE payments (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	order_id bigint NOT NULL REFERENCES orders,
	amount numeric(10,2) NOT NULL,
	method text NOT NULL
);
ALTER TABLE orders REPLICA IDENTITY FULL;
INSERT INTO customers (name) VALUES ('Ada'), ('Grace'), ('Edsger'), ('Barbara'), ('Leslie');`

// openShop connects and makes the shop's tables.
func openShop(ctx context.Context, url string) (*shop, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("open shop: %w", err)
	}
	if _, err := conn.Exec(ctx, shopSchema); err != nil {
		conn.Close(context.WithoutCancel(ctx))
		return nil, fmt.Errorf("make the shop's tables: %w", err)
	}
	return &shop{conn: conn}, nil
}

// close leaves the database.
func (s *shop) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s.conn.Close(ctx)
}

// trade does one thing a shop does every interval, until ctx ends.
func (s *shop) trade(ctx context.Context, interval time.Duration) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for step := 0; ; step++ {
		if err := s.act(ctx, step); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("trade: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// act places an order at every other step, and in between moves the oldest open
// one on: paid (with a payment in the same transaction), shipped, or withdrawn.
func (s *shop) act(ctx context.Context, step int) error {
	if step%2 == 0 {
		items := []string{"tea", "coffee", "chocolate", "a lamp", "a kite", "a map"}
		_, err := s.conn.Exec(ctx, `INSERT INTO orders (customer_id, item, total) VALUES ($1, $2, $3::numeric / 100)`,
			1+rand.Int64N(5), items[rand.IntN(len(items))], 500+rand.Int64N(9500))
		return err
	}
	if step%12 == 11 {
		_, err := s.conn.Exec(ctx, `DELETE FROM orders WHERE id = (SELECT min(id) FROM orders WHERE status = 'new')`)
		return err
	}
	if step%4 == 3 {
		_, err := s.conn.Exec(ctx, `UPDATE orders SET status = 'shipped' WHERE id = (SELECT min(id) FROM orders WHERE status = 'paid')`)
		return err
	}
	_, err := s.conn.Exec(ctx, `WITH paid AS (
			UPDATE orders SET status = 'paid' WHERE id = (SELECT min(id) FROM orders WHERE status = 'new') RETURNING id, total)
		INSERT INTO payments (order_id, amount, method) SELECT id, total, 'card' FROM paid`)
	return err
}
