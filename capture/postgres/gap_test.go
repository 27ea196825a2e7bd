package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/store/storetest"
)

// awaitGap waits until one gap is recorded and capture goes on behind it.
func (w *world) awaitGap(reason string) store.Gap {
	w.t.Helper()
	var gap store.Gap
	w.eventually(func() string {
		src := w.saved()
		if src.State != store.SourceGap || len(src.Gaps) == 0 {
			return fmt.Sprintf("source is %q (%s) with %d gaps", src.State, src.Reason, len(src.Gaps))
		}
		if gap = src.Gaps[0]; len(src.Gaps) != 1 || !strings.Contains(gap.Reason, reason) {
			return fmt.Sprintf("gaps are %+v, want one because %q", src.Gaps, reason)
		}
		return ""
	})
	return gap
}

// captureThings captures a table, of which one row has arrived.
func (w *world) captureThings() (stop func()) {
	w.t.Helper()
	w.exec(`CREATE TABLE things (n bigint PRIMARY KEY)`)
	stop = w.capture()
	w.exec(`INSERT INTO things VALUES (1)`)
	w.awaitRows(1)
	return stop
}

// awaitCapturedAgain writes a row until it arrives.
func (w *world) awaitCapturedAgain(n int64) {
	w.t.Helper()
	w.eventually(func() string {
		w.exec(fmt.Sprintf(`DELETE FROM things WHERE n = %d`, n), fmt.Sprintf(`INSERT INTO things VALUES (%d)`, n))
		if ns := w.numbers(); ns[len(ns)-1] != n {
			return "the table is not captured again"
		}
		return ""
	})
}

// mayBeAccepted checks that the state leaves gap when a person accepts it.
func (w *world) mayBeAccepted() {
	w.t.Helper()
	if _, err := w.store.AcceptGaps(w.t.Context(), w.name, "somebody"); err != nil {
		w.t.Fatal(err)
	}
	src := w.awaitState(store.SourceStreaming)
	if src.Reason != "" {
		w.t.Errorf("after the gap was accepted the reason is %q", src.Reason)
	}
}

func TestADroppedSlotIsAGapBehindWhichCaptureGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop := w.captureThings()
	stop()
	w.dropSlot()
	w.exec(`INSERT INTO things VALUES (2)`)
	w.start(w.config())
	gap := w.awaitGap("slot is gone")
	if gap.From == 0 || gap.To <= gap.From {
		t.Errorf("gap goes from %s to %s", gap.From, gap.To)
	}
	w.exec(`INSERT INTO things VALUES (3)`)
	if rows := w.awaitRows(2); rows[1].N != 3 {
		t.Errorf("after the gap comes row %d, want 3", rows[1].N)
	}
	if got := w.saved().State; got != store.SourceGap {
		t.Errorf("while nobody accepts the gap the state is %q", got)
	}
	w.mayBeAccepted()
}

// dropSlot drops the slot as soon as nobody holds it.
func (w *world) dropSlot() {
	w.t.Helper()
	w.eventually(func() string {
		if _, err := w.source.Exec(w.t.Context(), "SELECT pg_drop_replication_slot($1)", w.slot()); err != nil {
			return err.Error()
		}
		return ""
	})
}

func TestASlotDroppedUnderUsIsAGap(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.captureThings()
	w.eventually(func() string {
		_, err := w.source.Exec(t.Context(), `DO $$ BEGIN
			PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '`+w.slot()+`';
			PERFORM pg_sleep(0.02);
			PERFORM pg_drop_replication_slot('`+w.slot()+`');
		END $$`)
		if err != nil {
			return err.Error()
		}
		return ""
	})
	w.awaitGap("slot is gone")
	w.exec(`INSERT INTO things VALUES (2)`)
	w.awaitRows(2)
}

func TestASlotMovedBySomebodyIsAGap(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop := w.captureThings()
	stop()
	w.exec(`INSERT INTO things VALUES (2)`)
	w.eventually(func() string {
		if _, err := w.source.Exec(t.Context(), "SELECT pg_replication_slot_advance($1, pg_current_wal_lsn())", w.slot()); err != nil {
			return err.Error()
		}
		return ""
	})
	moved := w.confirmed()
	w.start(w.config())
	gap := w.awaitGap("moved past our checkpoint")
	if gap.To != moved {
		t.Errorf("gap goes to %s, the slot was moved to %s", gap.To, moved)
	}
	w.exec(`INSERT INTO things VALUES (3)`)
	if rows := w.awaitRows(2); rows[1].N != 3 {
		t.Errorf("after the gap comes row %d, want 3", rows[1].N)
	}
	w.mayBeAccepted()
}

func TestAPublicationDroppedUnderUsIsMadeAnewAndAGap(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.captureThings()
	w.exec(`DROP PUBLICATION `+pgx.Identifier{w.slot()}.Sanitize(), `INSERT INTO things VALUES (2)`)
	w.awaitGap("publication was dropped")
	w.exec(`INSERT INTO things VALUES (3)`)
	w.eventually(func() string {
		if ns := w.numbers(); len(ns) == 0 || ns[len(ns)-1] != 3 {
			return fmt.Sprintf("the log has %v, want 3 at its end", ns)
		}
		return ""
	})
	w.mayBeAccepted()
}

func TestAPublicationMadeAnewBySomebodyIsAGap(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.captureThings()
	name := pgx.Identifier{w.slot()}.Sanitize()
	w.exec(`DROP PUBLICATION `+name, `INSERT INTO things VALUES (2)`,
		`CREATE PUBLICATION `+name+` FOR TABLE things WITH (publish_via_partition_root = true)`)
	w.awaitGap("publication was dropped")
	w.exec(`INSERT INTO things VALUES (3)`)
	w.eventually(func() string {
		if ns := w.numbers(); len(ns) == 0 || ns[len(ns)-1] != 3 {
			return fmt.Sprintf("the log has %v, want 3 at its end", ns)
		}
		return ""
	})
}

func TestATableTakenOutOfThePublicationIsAGapThatNamesIt(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{true, false} {
		t.Run(fmt.Sprintf("while we run %t", running), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.exec(`CREATE TABLE things (n bigint PRIMARY KEY)`, `CREATE TABLE others (n bigint PRIMARY KEY)`)
			stop := w.capture()
			w.exec(`INSERT INTO things VALUES (1)`)
			w.awaitRows(1)
			if !running {
				stop()
			}
			w.exec(`ALTER PUBLICATION ` + pgx.Identifier{w.slot()}.Sanitize() + ` DROP TABLE things`)
			if !running {
				w.start(w.config())
			}
			w.awaitGap(`taken out of the publication: "public"."things"`)
			w.awaitCapturedAgain(2)
			w.mayBeAccepted()
		})
	}
}

func TestAPublicationThatWasNarrowedIsAGap(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`CREATE TABLE things (n bigint PRIMARY KEY)`)
	w.capture()
	w.exec(`ALTER PUBLICATION ` + pgx.Identifier{w.slot()}.Sanitize() + ` SET (publish = 'insert')`)
	w.awaitGap("narrowed")
	w.eventually(func() string {
		var complete bool
		err := w.source.QueryRow(t.Context(), `SELECT pubupdate AND pubdelete AND pubtruncate FROM pg_publication WHERE pubname = $1`, w.slot()).Scan(&complete)
		if err != nil || !complete {
			return fmt.Sprintf("the publication is not complete again: %v", err)
		}
		return ""
	})
}

func TestAnInvalidatedSlotIsAGap(t *testing.T) {
	t.Parallel()
	cluster := storetest.Cluster(t, map[string]string{"max_slot_wal_keep_size": "1MB", "max_wal_size": "32MB", "min_wal_size": "32MB"})
	w := newWorldAt(t, cluster.URL("postgres"), storetest.Open(t))
	stop := w.captureThings()
	stop()
	w.eventually(func() string {
		w.exec(`SELECT pg_switch_wal()`, `CREATE TABLE IF NOT EXISTS noise (n bigint)`, `INSERT INTO noise VALUES (1)`, `CHECKPOINT`)
		var status string
		if err := w.source.QueryRow(t.Context(), `SELECT wal_status FROM pg_replication_slots WHERE slot_name = $1`, w.slot()).Scan(&status); err != nil {
			return err.Error()
		}
		if status != "lost" {
			return "the slot is still " + status
		}
		return ""
	})
	w.start(w.config())
	w.awaitGap("invalidated")
	w.exec(`INSERT INTO things VALUES (2)`)
	if rows := w.awaitRows(2); rows[1].N != 2 {
		t.Errorf("after the gap comes row %d, want 2", rows[1].N)
	}
}

// refuses has the store refuse to insert into a table. It returns what waits until
// it has, and what ends it.
func (w *world) refuses(at, table string) (awaitRefused, end func()) {
	w.t.Helper()
	db := pool(w.t, at)
	exec := func(sql string) {
		w.t.Helper()
		if _, err := db.Exec(w.t.Context(), sql); err != nil {
			w.t.Fatalf("%s: %v", sql, err)
		}
	}
	// A sequence is the one thing that a transaction does not take back.
	exec(`CREATE SEQUENCE refused`)
	exec(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		RAISE EXCEPTION 'refused for the %th time', nextval('public.refused'); END $$`)
	exec(`CREATE TRIGGER refuse BEFORE INSERT ON rowcall.` + table + ` FOR EACH ROW EXECUTE FUNCTION refuse()`)
	awaitRefused = func() {
		w.t.Helper()
		w.eventually(func() string {
			var refused bool
			if err := db.QueryRow(w.t.Context(), `SELECT is_called FROM refused`).Scan(&refused); err != nil || !refused {
				return fmt.Sprintf("the start did not come so far (error %v)", err)
			}
			return ""
		})
	}
	return awaitRefused, func() {
		w.t.Helper()
		exec(`DROP TRIGGER refuse ON rowcall.` + table)
	}
}

// The publication is mended while the gap is dealt with; the start that does so
// may be cut short anywhere.
func TestAGapIsNotForgottenByAStartThatIsCutShort(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"gaps", "relations"} { // what it saves before and after the publication is mended
		for _, killed := range []bool{true, false} {
			t.Run(fmt.Sprintf("where %s are saved, killed %t", at, killed), func(t *testing.T) {
				t.Parallel()
				url := storetest.URL(t)
				w := newWorldAt(t, storetest.EmptyURL(t), storetest.OpenWith(t, store.Config{URL: url}))
				stop := w.captureThings()
				stop()
				w.exec(`ALTER PUBLICATION `+pgx.Identifier{w.slot()}.Sanitize()+` DROP TABLE things`, `INSERT INTO things VALUES (2)`)

				awaitRefused, end := w.refuses(url, at)
				stop = w.start(w.config())
				awaitRefused()
				if killed {
					stop()
				}
				end()
				if killed {
					w.start(w.config())
				}
				w.awaitGap(`taken out of the publication: "public"."things"`)
				w.awaitCapturedAgain(3)
				w.mayBeAccepted()
			})
		}
	}
}

// From PostgreSQL 18 on it would leave changes out, and nothing would show it.
func TestASlotWhosePublicationWasDroppedIsGoneBeforeThatIsMadeAnew(t *testing.T) {
	t.Parallel()
	url := storetest.URL(t)
	w := newWorldAt(t, storetest.EmptyURL(t), storetest.OpenWith(t, store.Config{URL: url}))
	stop := w.captureThings()
	stop()
	w.exec(`DROP PUBLICATION `+pgx.Identifier{w.slot()}.Sanitize(), `INSERT INTO things VALUES (2)`)
	awaitRefused, end := w.refuses(url, "relations")
	stop = w.start(w.config())
	awaitRefused()
	stop()
	var slots, publications int
	err := w.source.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1),
		(SELECT count(*) FROM pg_publication WHERE pubname = $1)`, w.slot()).Scan(&slots, &publications)
	if err != nil || slots != 0 || publications != 1 {
		t.Errorf("%d slots and %d publications, error %v; want the publication alone", slots, publications, err)
	}
	end()
	w.start(w.config())
	w.awaitGap("slot is gone")
	w.exec(`INSERT INTO things VALUES (3)`)
	w.eventually(func() string {
		if ns := w.numbers(); len(ns) != 2 || ns[1] != 3 {
			return fmt.Sprintf("the log has %v, want 1 and 3", ns)
		}
		return ""
	})
}
