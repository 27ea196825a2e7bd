package store_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/store/storetest"
)

// More ranges of an index than the server's queue takes, faster than it is worked
// through: its log stays silent, and all of them are summarized by rowcall.
func TestManyEventsAtOnceLeaveTheServersLogSilent(t *testing.T) {
	t.Parallel()
	cluster := storetest.Cluster(t, nil)
	url := storetest.Migrated(t, cluster)
	s := storetest.OpenWith(t, store.Config{URL: url})
	claim := source(t, s, "shop")
	const events, size, each = 36_000, 1_900, 1_000 // four a page, so 280 ranges of 32 pages
	random := rand.NewChaCha8([32]byte{})           // bytes that are not compressed
	for lsn := store.LSN(1); lsn <= events/each; lsn++ {
		b := &store.Batch{Checkpoint: store.Checkpoint{Commit: lsn, Ordinal: each, End: lsn + 8}}
		for i := range each {
			row := b.Begin(store.Event{LSN: lsn, Ordinal: int64(i), Generation: 1, Kind: store.KindRow, Type: "public.orders.updated", Key: "public.orders/id=1"})
			payload := make([]byte, size)
			_, _ = random.Read(payload)
			b.End(append(row, payload...))
		}
		mustAppend(t, s, claim, b)
	}
	if err := s.Summarize(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	w := &world{t: t, conn: conn}
	const brin = ` FROM pg_class i JOIN pg_am a ON a.oid = i.relam WHERE i.relnamespace = 'rowcall'::regnamespace AND i.relkind = 'i' AND a.amname = 'brin'`
	if n := one[int](w, `SELECT count(*)`+brin); n < 10 {
		t.Fatalf("%d BRIN indexes", n)
	}
	if n := one[int](w, `SELECT count(*)`+brin+` AND 'autosummarize=on' = ANY (i.reloptions)`); n > 0 {
		t.Errorf("%d indexes are summarized by the server", n)
	}
	// Where it is written to, the last range is left: its summary would be written with each row.
	const left = `SELECT coalesce(sum(brin_summarize_new_values(i.oid)), 0)` + brin + ` AND EXISTS (SELECT FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid
JOIN rowcall.partitions p ON p.name = c.relname JOIN rowcall.log_head h ON h.next BETWEEN p.first AND p.past - 1 WHERE x.indexrelid = i.oid)`
	if open := one[int](w, left); open != 2 {
		t.Errorf("%d ranges of what is written to were left, want the last of both indexes", open)
	}
	if others := one[int](w, `SELECT coalesce(sum(brin_summarize_new_values(i.oid)), 0)`+brin); others > 0 {
		t.Errorf("%d ranges were left", others)
	}
	said, err := os.ReadFile(filepath.Join(cluster.Dir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(said), "BRIN range summarization"); n > 0 {
		t.Errorf("the server says %d times that it has ranges to summarize", n)
	}
	if !strings.Contains(string(said), "ready to accept connections") {
		t.Error("this is not the server's log")
	}
}
