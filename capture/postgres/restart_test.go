package postgres_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/store/pgtemp"
	"github.com/rowcall/rowcall/store/storetest"
)

// write commits rows with rising n until the function that it returns is
// called; that one returns the numbers of the rows that are there. Where the
// source is away a row is tried again.
func (w *world) write(pause time.Duration) (stop func() []int64) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for n := int64(1); ctx.Err() == nil; {
			// ON CONFLICT: a commit whose answer was lost is not a fault. The last one
			// is not cancelled: it might be committed after the rows were looked at.
			if _, err := w.source.Exec(w.t.Context(), `INSERT INTO things VALUES ($1) ON CONFLICT DO NOTHING`, n); err == nil {
				n++
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	})
	return func() []int64 {
		w.t.Helper()
		cancel()
		wg.Wait()
		var there []int64
		w.eventually(func() string { // the source may be away
			rows, err := w.source.Query(w.t.Context(), `SELECT n FROM things ORDER BY n`)
			if err != nil {
				return err.Error()
			}
			if there, err = pgx.CollectRows(rows, pgx.RowTo[int64]); err != nil {
				return err.Error()
			}
			return ""
		})
		return there
	}
}

// wantLog waits until the log holds exactly these rows, in this order.
func (w *world) wantLog(want []int64) {
	w.t.Helper()
	w.eventually(func() string {
		if got := w.numbers(); len(got) < len(want) {
			return fmt.Sprintf("the log has %d rows, the source %d", len(got), len(want))
		}
		return ""
	})
	if diff := cmp.Diff(want, w.numbers()); diff != "" {
		w.t.Errorf("rows in the log (-source +log):\n%s", diff)
	}
	if gaps := w.saved().Gaps; len(gaps) > 0 {
		w.t.Errorf("gaps: %+v", gaps)
	}
}

func TestNothingIsLostOrDoubledWhenTheSourceCrashes(t *testing.T) {
	t.Parallel()
	cluster := storetest.Cluster(t, nil)
	w := newWorldAt(t, cluster.URL("postgres"), storetest.Open(t))
	w.exec(`CREATE TABLE things (n bigint PRIMARY KEY)`)
	w.capture()
	stop := w.write(time.Millisecond)
	for range 4 {
		before := w.store.Head()
		w.eventually(func() string {
			if w.store.Head() < before+20 {
				return "capture does not go on"
			}
			return ""
		})
		if err := cluster.Restart(t.Context(), pgtemp.Immediate); err != nil {
			t.Fatal(err)
		}
	}
	w.wantLog(stop())
	w.awaitState(store.SourceStreaming)
}

func TestNothingIsLostOrDoubledWhenTheWalsenderIsTerminated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`CREATE TABLE things (n bigint PRIMARY KEY)`)
	w.capture()
	stop := w.write(time.Millisecond)
	quickest := patience
	for range 12 {
		before, at := w.store.Head(), time.Now()
		w.exec(`SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active AND slot_name = '` + w.slot() + `'`)
		w.eventually(func() string {
			if w.store.Head() < before+5 {
				return "capture does not go on"
			}
			return ""
		})
		quickest = min(quickest, time.Since(at))
	}
	if quickest > time.Second {
		t.Errorf("the quickest return took %s", quickest)
	}
	w.wantLog(stop())
}

func TestNothingIsLostOrDoubledWhenCaptureStopsAnywhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`CREATE TABLE things (n bigint PRIMARY KEY)`)
	w.capture()()
	write := w.write(time.Millisecond)
	for range 15 {
		stop := w.start(w.config())
		timer := time.NewTimer(time.Duration(rand.Int64N(int64(150 * time.Millisecond))))
		<-timer.C
		stop()
	}
	w.start(w.config())
	w.wantLog(write())
}

func TestNothingIsLostOrDoubledWhenTheStoreCrashes(t *testing.T) {
	t.Parallel()
	cluster := storetest.Cluster(t, nil)
	s := storetest.OpenWith(t, store.Config{URL: storetest.Migrated(t, cluster)})
	w := newWorldAt(t, storetest.EmptyURL(t), s)
	w.exec(`CREATE TABLE things (n bigint PRIMARY KEY)`)
	w.capture()
	stop := w.write(time.Millisecond)
	for range 3 {
		before := s.Head()
		w.eventually(func() string {
			if s.Head() < before+20 {
				return "capture does not go on"
			}
			return ""
		})
		if err := cluster.Restart(t.Context(), pgtemp.Immediate); err != nil {
			t.Fatal(err)
		}
	}
	want := stop()
	w.eventually(func() string { // the store's own connections come back by and by
		if s.Head() <= store.Offset(len(want)) {
			return fmt.Sprintf("the log's head is %d, the source has %d rows", s.Head(), len(want))
		}
		return ""
	})
	w.wantLog(want)
}

func TestWhatIsConfirmedIsDurable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`CREATE TABLE things (n bigint PRIMARY KEY)`)
	w.capture()
	stop := w.write(time.Millisecond)
	// The slot first, then the checkpoint: that one only grows, so a confirmed
	// position above it was never durable.
	last := store.LSN(0)
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); {
		confirmed := w.confirmed()
		if end := w.saved().Checkpoint.End; confirmed > end {
			t.Fatalf("confirmed %s, durable %s", confirmed, end)
		}
		if confirmed < last {
			t.Fatalf("confirmed %s after %s", confirmed, last)
		}
		last = confirmed
	}
	stop()
	rows := w.rows(".inserted")
	w.eventually(func() string { // and it is confirmed without being asked
		if w.confirmed() <= rows[len(rows)-1].LSN {
			return "the last row is not confirmed"
		}
		return ""
	})
}
