package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/store/storetest"
)

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func scan[T any](t testing.TB, conn *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func TestOffsetsOfTwoAppendersAreGaplessAndNoReaderMissesARow(t *testing.T) {
	t.Parallel()
	url, cipher := storetest.URL(t), storetest.Cipher(t)
	open := func(instance string) *store.Store {
		return storetest.OpenWith(t, store.Config{URL: url, Cipher: cipher, Instance: instance})
	}
	appenders := []*store.Store{open("a"), open("b")}
	reader := open("reader")
	const batches = 150
	total := 0
	for i := range batches {
		total += 2 * (i%20 + 1)
	}

	var claims []store.SourceClaim
	for i, s := range appenders {
		claims = append(claims, source(t, s, fmt.Sprintf("source%d", i)))
	}
	var wg sync.WaitGroup
	for i, s := range appenders {
		claim := claims[i]
		wg.Go(func() {
			for i := range batches {
				b := batch(store.LSN(i+1), i%20+1)
				if _, err := s.Append(t.Context(), claim, b); err != nil {
					t.Errorf("append: %v", err)
					return
				}
			}
		})
	}
	// Every store reads while they append: the two from ring and table both.
	for name, s := range map[string]*store.Store{"a": appenders[0], "b": appenders[1], "reader": reader} {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			next := store.Offset(1)
			last := map[string]store.Event{}
			for int(next) <= total {
				if err := s.Wait(ctx, next); err != nil {
					t.Errorf("%s: wait for %d: %v", name, next, err)
					return
				}
				page, err := s.Read(ctx, next, 100, 1<<20)
				if err != nil {
					t.Errorf("%s: read from %d: %v", name, next, err)
					return
				}
				for _, e := range page {
					if e.Offset != next {
						t.Errorf("%s: got offset %d, want %d", name, e.Offset, next)
						return
					}
					was := last[e.Source]
					follows := e.LSN == was.LSN && e.Ordinal == was.Ordinal+1 || e.LSN == was.LSN+1 && e.Ordinal == 0
					if !follows {
						t.Errorf("%s: %s: %d/%d follows %d/%d", name, e.Source, e.LSN, e.Ordinal, was.LSN, was.Ordinal)
						return
					}
					last[e.Source] = e
					next++
				}
			}
		})
	}
	wg.Wait()
	// The rings of the two hold runs of their own batches only.
	for _, s := range appenders {
		for i, e := range readAll(t, s, 1) {
			if e.Offset != store.Offset(i+1) {
				t.Fatalf("read again: offset %d in place %d", e.Offset, i+1)
			}
		}
	}
}

func TestAFencedAppendWritesNothing(t *testing.T) {
	t.Parallel()
	url := storetest.URL(t)
	s := storetest.OpenWith(t, store.Config{URL: url})
	former := source(t, s, "shop")
	mustAppend(t, s, former, batch(1, 3))
	current := source(t, s, "shop")
	for name, b := range map[string]*store.Batch{"events": batch(2, 2), "a checkpoint": {Checkpoint: store.Checkpoint{Commit: 9}}} {
		if _, err := s.Append(t.Context(), former, b); !errors.Is(err, store.ErrFenced) {
			t.Fatalf("append of %s under a former claim: %v, want ErrFenced", name, err)
		}
	}
	conn := connect(t, url)
	if n := scan[int](t, conn, `SELECT count(*) FROM rowcall.events`); n != 3 {
		t.Fatalf("%d events in the log, want 3", n)
	}
	if lsn := scan[int](t, conn, `SELECT commit_lsn FROM rowcall.checkpoints`); lsn != 1 {
		t.Fatalf("checkpoint at %d, want 1", lsn)
	}
	if at := mustAppend(t, s, current, batch(2, 2)); at != 4 {
		t.Fatalf("the current claim appended at %d, want 4", at)
	}
}

func TestAnAppendWhoseCommitWasInDoubtIsInTheLogOnce(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		committed bool
	}{{"the server got the COMMIT", true}, {"the COMMIT was lost", false}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			direct := storetest.URL(t)
			proxy, url := newProxy(t, direct)
			s := storetest.OpenWith(t, store.Config{URL: url})
			claim := source(t, s, "shop")
			mustAppend(t, s, claim, batch(1, 3))

			b := batch(2, 5)
			proxy.cutAt("\x00commit\x00", test.committed)
			if _, err := s.Append(t.Context(), claim, b); !store.Unavailable(err) {
				t.Fatalf("append over a connection that was cut: %v, want an error that says unavailable", err)
			}
			<-proxy.cuts
			if at := mustAppend(t, s, claim, b); at != 4 {
				t.Fatalf("appended again at %d, want 4", at)
			}
			mustAppend(t, s, claim, batch(3, 1))
			events := readAll(t, s, 1)
			if len(events) != 9 || events[7].LSN != 2 || events[7].Ordinal != 4 || string(events[7].Data) != `{"op":"update","lsn":2,"ordinal":4}` {
				t.Fatalf("the log is %+v", events)
			}
			if n := scan[int](t, connect(t, direct), `SELECT count(*) FROM rowcall.events WHERE lsn = 2`); n != 5 {
				t.Fatalf("%d events of the batch in the table, want 5", n)
			}
		})
	}
}

func TestABatchThatOverlapsTheLogIsRefusedWhole(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	claim := source(t, s, "shop")
	half := batch(5, 2)
	half.Checkpoint.Ordinal = 2
	mustAppend(t, s, claim, half)
	if _, err := s.Append(t.Context(), claim, batch(5, 4)); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("append: %v, want ErrConflict", err)
	}
	if head := s.Head(); head != 3 {
		t.Fatalf("head %d, want 3", head)
	}
	// The rest of the transaction is welcome.
	rest := &store.Batch{Checkpoint: store.Checkpoint{Commit: 5, Ordinal: 3, End: 13}}
	rest.End(append(rest.Begin(store.Event{LSN: 5, Ordinal: 2, Type: "t", Key: "k"}), `{}`...))
	if at := mustAppend(t, s, claim, rest); at != 3 {
		t.Fatalf("appended at %d, want 3", at)
	}
}

func TestAnEmptyBatchMovesTheCheckpointAlone(t *testing.T) {
	t.Parallel()
	url := storetest.URL(t)
	s := storetest.OpenWith(t, store.Config{URL: url})
	claim := source(t, s, "shop")
	mustAppend(t, s, claim, batch(1, 3))
	at := time.Date(2026, 11, 20, 12, 0, 0, 123456000, time.UTC)
	empty := &store.Batch{Checkpoint: store.Checkpoint{Commit: 1, Ordinal: 3, End: 99, CommitAt: at}}
	if next := mustAppend(t, s, claim, empty); next != 4 {
		t.Fatalf("next offset %d, want 4", next)
	}
	mustAppend(t, s, claim, batch(100, 1))
	src, err := s.Source(t.Context(), "shop")
	if err != nil || src.Checkpoint.End != 108 || src.Checkpoint.Commit != 100 {
		t.Fatalf("checkpoint %+v, error %v", src.Checkpoint, err)
	}
}

func TestAppendsAreDurableWhateverTheRoleSaysOfSynchronousCommit(t *testing.T) {
	t.Parallel()
	url := storetest.URL(t)
	conn := connect(t, url)
	name := scan[string](t, conn, `SELECT current_database()`)
	if _, err := conn.Exec(t.Context(), `ALTER DATABASE `+pgx.Identifier{name}.Sanitize()+` SET synchronous_commit = off`); err != nil {
		t.Fatal(err)
	}
	s := storetest.OpenWith(t, store.Config{URL: url})
	claim := source(t, s, "shop")
	// What the session of the append had is seen from within its transaction.
	if _, err := conn.Exec(t.Context(), `
		CREATE TABLE seen (setting text);
		CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		  INSERT INTO public.seen VALUES (current_setting('synchronous_commit')); RETURN NEW; END $$;
		CREATE TRIGGER see AFTER UPDATE ON rowcall.checkpoints FOR EACH ROW EXECUTE FUNCTION see()`); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, claim, batch(1, 3))
	mustAppend(t, s, claim, &store.Batch{Checkpoint: store.Checkpoint{Commit: 2, End: 10}})
	if n := scan[int](t, conn, `SELECT count(*) FILTER (WHERE setting = 'on') FROM seen`); n != 2 {
		t.Fatalf("%d of 2 transactions had synchronous_commit on", n)
	}
	if fresh := scan[string](t, connect(t, url), `SHOW synchronous_commit`); fresh != "off" {
		t.Fatalf("the default of the database is %s: the test shows nothing", fresh)
	}
}

func TestAppendsOutgrowAnyPartition(t *testing.T) {
	t.Parallel()
	url := storetest.URL(t)
	s := storetest.OpenIdle(t, store.Config{URL: url}) // nobody makes partitions ahead
	run := storetest.Run(t, s)
	claim := source(t, s, "shop")
	run()
	for lsn := range store.LSN(6) {
		mustAppend(t, s, claim, batch(lsn+1, 9000))
	}
	if events := readAll(t, s, 1); len(events) != 54000 {
		t.Fatalf("read %d events, want 54000", len(events))
	}
	conn := connect(t, url)
	if n := scan[int](t, conn, `SELECT count(*) FROM rowcall.partitions`); n < 2 {
		t.Fatalf("%d partitions", n)
	}
	// They follow each other without a hole up to what log_head says.
	holes := scan[int](t, conn, `SELECT count(*) FROM rowcall.partitions p, rowcall.log_head h
		WHERE p.past <> h.partitioned_to AND NOT EXISTS (SELECT FROM rowcall.partitions n WHERE n.first = p.past)`)
	if holes > 0 {
		t.Fatalf("%d holes between partitions", holes)
	}
}

// A server process that was frozen may come to a checkpoint long after its caller
// has gone on; it is the same statement then.
func TestACheckpointDoesNotGoBack(t *testing.T) {
	t.Parallel()
	url := storetest.URL(t)
	s := storetest.OpenWith(t, store.Config{URL: url})
	claim := source(t, s, "shop")
	idle := func(to store.Checkpoint) error {
		_, err := s.Append(t.Context(), claim, &store.Batch{Checkpoint: to})
		return err
	}
	conn := connect(t, url)
	at := func() string {
		return scan[string](t, conn, `SELECT concat_ws(' ', commit_lsn, ordinal, end_lsn) FROM rowcall.checkpoints`)
	}
	if err := idle(store.Checkpoint{Commit: 90, Ordinal: 2, End: 100}); err != nil {
		t.Fatal(err)
	}
	b := batch(150, 6) // the first part of a transaction
	b.Checkpoint = store.Checkpoint{Commit: 150, Ordinal: 5, End: 100}
	mustAppend(t, s, claim, b)
	for _, late := range []store.Checkpoint{{Commit: 90, Ordinal: 2, End: 100}, {Commit: 150, Ordinal: 4, End: 100}, {Commit: 150, Ordinal: 5, End: 99}} {
		if err := idle(late); err == nil || at() != "150 5 100" {
			t.Errorf("%+v was saved over what is ahead: %s, error %v", late, at(), err)
		}
	}
	if err := idle(store.Checkpoint{Commit: 150, Ordinal: 5, End: 160}); err != nil || at() != "150 5 160" {
		t.Errorf("%s, error %v", at(), err)
	}
}
