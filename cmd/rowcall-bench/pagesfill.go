package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// What the pages are measured on.
const (
	pagesLanes = 1_000
	pagesRows  = 1_000_000 // events, attempts, dead letters and changes: each so many
)

// filling puts into the store, by SQL and while rowcall is down, what would take it
// hours: attempts that ended two hours ago, dead letters of which half are one lane's, others
// without a key, the
// audit trail and jobs. The lane numbers are 1 to 1000, in the order of subscriptions.
var filling = []string{
	// What is in the log was delivered, but for the dead letters.
	`UPDATE rowcall.cursors SET "offset" = (SELECT next FROM rowcall.log_head), following = false, ahead = '{}'`,
	// Each lane has a label of its own, a team of twenty, and a half.
	`UPDATE rowcall.subscriptions s SET spec = spec || jsonb_build_object('labels',
	  jsonb_build_object('lane', c.lane::text, 'team', (c.lane % 50)::text, 'half', (c.lane % 2)::text))
	FROM rowcall.cursors c WHERE c.subscription = s.id`,
	`DO $$
	DECLARE day date;
	BEGIN
	  FOREACH day IN ARRAY ARRAY[(now() AT TIME ZONE 'UTC')::date - 1, (now() AT TIME ZONE 'UTC')::date] LOOP
	    IF to_regclass('rowcall.attempts_' || to_char(day, 'YYYYMMDD')) IS NULL THEN
	      EXECUTE format('CREATE TABLE rowcall.%I PARTITION OF rowcall.attempts FOR VALUES FROM (%L) TO (%L)',
	        'attempts_' || to_char(day, 'YYYYMMDD'), day || ' 00:00:00+00', day + 1 || ' 00:00:00+00');
	    END IF;
	  END LOOP;
	END $$`,
	`INSERT INTO rowcall.attempts (at, lane, "offset", attempt, duration, status, outcome, reason, detail)
	SELECT now() - interval '2 hours' - (` + rows + ` - i) * interval '40 ms', CASE WHEN i % 2 = 0 THEN 1 ELSE 1 + i % 999 END, i, 1, 3000,
	  CASE WHEN i % 10 = 0 THEN 500 ELSE 200 END, CASE WHEN i % 10 = 0 THEN 1 ELSE 0 END, CASE WHEN i % 10 = 0 THEN 'server_error' END,
	  CASE WHEN i % 10 = 0 THEN '{"error": "500 Internal Server Error", "body": "no"}'::jsonb END
	FROM generate_series(1, ` + rows + `) i`,
	// Charts are read from counts, which rowcall makes while it delivers.
	`TRUNCATE rowcall.attempt_counts`,
	`INSERT INTO rowcall.attempt_counts (step, lane, at, took, delivered, failed)
	SELECT step, of, to_timestamp(floor(extract(epoch FROM at) / step) * step), 3, count(*) FILTER (WHERE outcome = 0), count(*) FILTER (WHERE outcome <> 0)
	FROM rowcall.attempts, unnest(ARRAY[0, lane]) AS of, unnest(ARRAY[60, 900, 7200]) AS step GROUP BY 1, 2, 3`,
	`INSERT INTO rowcall.deliveries (lane, "offset", state, keys, attempts, first_failed_at, updated_at, reason, status, error, event, data)
	SELECT CASE WHEN i % 2 = 0 THEN 1 ELSE 1 + i % 999 END, e."offset", 'dead', ARRAY[e.key], 12,
	  now() - (` + rows + ` - i) * interval '80 ms', now() - (` + rows + ` - i) * interval '80 ms',
	  CASE WHEN i % 3 = 0 THEN 'rejected' ELSE 'timeout' END, CASE WHEN i % 3 = 0 THEN 422 ELSE 0 END, 'context deadline exceeded',
	  CASE WHEN i <= 100000 THEN jsonb_build_object('lsn', e.lsn, 'ordinal', e.ordinal, 'time', (extract(epoch FROM e.time) * 1000000)::bigint,
	    'source', e.source, 'generation', e.generation, 'kind', e.kind, 'relation', e.relation, 'type', e.type, 'key', e.key) END,
	  CASE WHEN i <= 100000 THEN e.data END
	FROM generate_series(1, ` + rows + `) i JOIN rowcall.events e ON e."offset" = i`,
	// Of a subscription that orders nothing.
	`INSERT INTO rowcall.deliveries (lane, "offset", state, keys, attempts, first_failed_at, updated_at, reason, error, key_hash)
	SELECT 1000, e."offset", 'dead', '{}', 12, now(), now(), 'tls', 'certificate has expired', hashtextextended(e.key, 0)
	FROM rowcall.events e WHERE e."offset" <= ` + rows + ` / 2`,
	`INSERT INTO rowcall.audit (at, actor, action, object)
	SELECT now() - (` + rows + ` - i) * interval '30 s', 'key_' || i % 50, (ARRAY['pause-subscription', 'resume-subscription', 'patch-subscription'])[1 + i % 3],
	  'subscription/sub_' || i % 1000
	FROM generate_series(1, ` + rows + `) i`,
	`INSERT INTO rowcall.jobs (id, kind, state, subscription, spec, total, at_least, created_by, ended_at)
	SELECT CASE WHEN i % 2 = 0 THEN 'job_' ELSE 'rpl_' END || lpad(i::text, 26, '0'), CASE WHEN i % 2 = 0 THEN 'retry' ELSE 'replay' END,
	  'done', s.id, '{}', 5, false, 'key_bench', now()
	FROM generate_series(1, 10000) i JOIN (SELECT id, row_number() OVER (ORDER BY id) AS n FROM rowcall.subscriptions) s ON s.n = 1 + i % 1000`,
	`VACUUM (ANALYZE)`,
}

var rows = strconv.Itoa(pagesRows)

// fill makes a thousand subscriptions and a million of everything that grows. The
// events are captured, as any; rowcall runs when it is done.
func (w *world) fill(ctx context.Context) (err error) {
	if err := w.startRowcall(ctx); err != nil {
		return err
	}
	for i := range pagesLanes - 1 {
		name := "pages-" + strconv.Itoa(i)
		if _, err := w.subscribe(ctx, name, "pages.t"+strconv.Itoa(i)+".*", "/hook/"+name); err != nil {
			return err
		}
	}
	if err := w.pause(ctx, true); err != nil { // what is captured now, nobody needs
		return err
	}
	if _, err := w.source.Exec(ctx, `INSERT INTO orders (customer, status, total, note) VALUES (1, 'rare', 1, 'x')`); err != nil {
		return err
	}
	if _, err := w.source.Exec(ctx, `UPDATE orders SET status = 'gone' WHERE status = 'rare'`); err != nil {
		return err
	}
	// Half of them by transactions of a thousand, the other half by one.
	const orders = `INSERT INTO orders (customer, status, total, note) SELECT i %% 1000, 'new', i, '%s' FROM generate_series(1, %d) i`
	if _, err := w.source.Exec(ctx, fmt.Sprintf(`DO $$ BEGIN FOR n IN 1..%d LOOP `+orders+`; COMMIT; END LOOP; END $$`, pagesRows/2/1000, note, 1000)); err != nil {
		return err
	}
	if _, err := w.source.Exec(ctx, fmt.Sprintf(orders, note, pagesRows/2)); err != nil {
		return err
	}
	store, err := pgx.Connect(ctx, w.cluster.URL("gateway"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close(context.WithoutCancel(ctx))) }()
	if err := until(ctx, 5*time.Minute, "all is in the log", func() (all bool, err error) {
		err = store.QueryRow(ctx, `SELECT next > $1 FROM rowcall.log_head`, pagesRows).Scan(&all)
		return all, err
	}); err != nil {
		return err
	}
	if err := w.stopRowcall(); err != nil {
		return err
	}
	for _, sql := range filling {
		if _, err := store.Exec(ctx, sql); err != nil {
			return fmt.Errorf("fill the store: %w", err)
		}
	}
	if err := w.startRowcall(ctx); err != nil {
		return err
	}
	return w.pause(ctx, false)
}
