package store_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/store/storetest"
)

// payload is what an ordinary event's data weighs.
var payload = bytes.Repeat([]byte("x"), 500)

func filled(lsn store.LSN, n int) *store.Batch {
	b := &store.Batch{Checkpoint: store.Checkpoint{Commit: lsn, Ordinal: int64(n), End: lsn + 8}}
	for i := range n {
		e := store.Event{
			LSN: lsn, Ordinal: int64(i), Time: 1_780_000_000_000_000, Generation: 1,
			Kind: store.KindRow, Type: "public.orders.updated", Key: "public.orders/id=12345",
		}
		b.End(append(b.Begin(e), payload...))
	}
	return b
}

func BenchmarkAppend(b *testing.B) {
	// fsync decides over the latency of a commit, as in production.
	cluster := storetest.Cluster(b, map[string]string{"fsync": "on", "full_page_writes": "on"})
	s := storetest.OpenWith(b, store.Config{URL: storetest.Migrated(b, cluster)})
	claim := source(b, s, "shop")
	var lsn store.LSN
	for _, n := range []int{1, 10, 100, 1000, 5000} {
		b.Run(fmt.Sprintf("batch=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				lsn += 16
				if _, err := s.Append(b.Context(), claim, filled(lsn, n)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// Every version of the rows that an append moves stays while a transaction holds
// a snapshot; an append must not get slower by them.
func BenchmarkAppendWhileASnapshotIsHeld(b *testing.B) {
	url := storetest.URL(b)
	s := storetest.OpenWith(b, store.Config{URL: url})
	claim := source(b, s, "shop")
	var lsn store.LSN
	one := func() {
		lsn += 16
		if _, err := s.Append(b.Context(), claim, filled(lsn, 1)); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("none", func(b *testing.B) {
		for b.Loop() {
			one()
		}
	})
	holder := connect(b, url)
	exec(b, holder, `BEGIN ISOLATION LEVEL REPEATABLE READ`)
	exec(b, holder, `SELECT 1`)
	for _, versions := range []int{1_000, 20_000} {
		b.Run(fmt.Sprintf("versions=%d", versions), func(b *testing.B) {
			for range versions {
				one()
			}
			for b.Loop() {
				one()
			}
		})
	}
}

func BenchmarkRead(b *testing.B) {
	config := store.Config{URL: storetest.URL(b), Cipher: storetest.Cipher(b), RingBytes: 1 << 30}
	s := storetest.OpenWith(b, config)
	claim := source(b, s, "shop")
	const n = 100_000
	for lsn := range store.LSN(n / 1000) {
		mustAppend(b, s, claim, filled(lsn+1, 1000))
	}
	config.Instance = "reader"
	for _, from := range []struct {
		name  string
		store *store.Store
	}{{"ring", s}, {"table", storetest.OpenIdle(b, config)}} {
		for _, page := range []int{1, 1000} {
			b.Run(fmt.Sprintf("%s/page=%d", from.name, page), func(b *testing.B) {
				b.ReportAllocs()
				at, events := store.Offset(1), 0
				for b.Loop() {
					got, err := from.store.Read(b.Context(), at, page, 4<<20)
					if err != nil {
						b.Fatal(err)
					}
					events += len(got)
					if at += store.Offset(len(got)); at >= n {
						at = 1
					}
				}
				b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
			})
		}
	}
}
