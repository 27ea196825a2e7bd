package dispatch

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// fleet is a store in memory with many lanes over one log. Every read makes its
// events anew, as one from a table does: what the heap holds of them, dispatch holds.
type fleet struct {
	*memory // of the lease
	lanes   map[store.LaneID]*memory
	events  int
	event   func(n int) store.Event
	slab    bool // pages are one piece of memory, as a batch in the ring is
}

func newFleet(lanes, events int, event func(n int) store.Event, edit func(n int, s *subscriptions.Spec)) *fleet {
	f := &fleet{memory: newMemory(simulated(nil)), lanes: map[store.LaneID]*memory{}, events: events, event: event}
	for n := range lanes {
		sub := simulated(func(s *subscriptions.Spec) {
			s.Endpoint.URL = fmt.Sprintf("https://sim.example/%d", n)
			if edit != nil {
				edit(n, s)
			}
		})
		sub.ID = subscriptions.ID("sub_" + strconv.Itoa(n))
		f.lanes[store.LaneID(n+1)] = newMemory(sub)
	}
	return f
}

func (f *fleet) restart() {
	f.memory.restart()
	for _, m := range f.lanes {
		m.restart()
	}
}

func (f *fleet) Head() store.Offset { return store.Offset(f.events + 1) }

func (f *fleet) Read(_ context.Context, from store.Offset, limit int, maxBytes int64) ([]store.Event, error) {
	var found []store.Event
	for at := from; at < f.Head() && len(found) < limit && (maxBytes > 0 || len(found) == 0); at++ {
		e, _ := f.Event(context.Background(), at)
		maxBytes -= int64(len(e.Data))
		if maxBytes >= 0 || len(found) == 0 {
			found = append(found, *e)
		}
	}
	if f.slab {
		var whole []byte
		for i := range found {
			whole = append(whole, found[i].Data...)
		}
		for i := range found {
			n := len(found[i].Data)
			found[i].Data, whole = whole[:n:n], whole[n:]
		}
	}
	return found, nil
}

func (f *fleet) Event(_ context.Context, at store.Offset) (*store.Event, error) {
	e := f.event(int(at))
	e.Offset = at
	return &e, nil
}

func (f *fleet) Wait(ctx context.Context, past store.Offset) error {
	if past < f.Head() {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func (f *fleet) Settle(ctx context.Context, set store.Settlement) (fenced []store.LaneID, faulty map[store.LaneID]error, err error) {
	if set.Floor != 0 {
		for _, m := range f.lanes {
			if _, _, err := m.Settle(ctx, store.Settlement{Lease: set.Lease, Floor: set.Floor}); err != nil {
				return nil, nil, err
			}
		}
	}
	for _, l := range set.Lanes {
		cut, _, err := f.lanes[l.Lane].Settle(ctx, store.Settlement{Lease: set.Lease, Lanes: []store.LaneSettlement{l}})
		if err != nil {
			return nil, nil, err
		}
		fenced = append(fenced, cut...)
	}
	return fenced, nil, nil
}

func (f *fleet) ClaimLanes(ctx context.Context, have map[store.LaneID]int64) (lanes []store.Lane, owned []store.LaneID, err error) {
	for id, m := range f.lanes {
		one := map[store.LaneID]int64{}
		if version, ok := have[id]; ok {
			one[1] = version
		}
		claimed, _, err := m.ClaimLanes(ctx, one)
		if err != nil {
			return nil, nil, err
		}
		for _, l := range claimed {
			l.ID = id
			lanes = append(lanes, l)
		}
	}
	slices.SortFunc(lanes, func(a, b store.Lane) int { return cmp.Compare(a.ID, b.ID) })
	return lanes, slices.Sorted(maps.Keys(f.lanes)), nil
}

func (f *fleet) LaneDeliveries(ctx context.Context, lane store.LaneID, withDead bool) ([]store.Delivery, error) {
	return f.lanes[lane].LaneDeliveries(ctx, lane, withDead)
}

// hanging is an endpoint, one for each path, that takes requests and does not
// answer until it is healed.
type hanging struct {
	mu     sync.Mutex
	healed bool
	got    map[string][]int // sequences acknowledged, by path
	most   int              // bytes in flight at once
	flying int
}

func (h *hanging) RoundTrip(r *http.Request) (*http.Response, error) {
	head := make([]byte, 512)
	n, err := io.ReadFull(r.Body, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	_, rest, _ := bytes.Cut(head[:n], []byte(`"sequence":"`))
	digits, _, _ := bytes.Cut(rest, []byte(`"`))
	sequence, err := strconv.Atoi(string(digits))
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.flying += int(r.ContentLength)
	h.most = max(h.most, h.flying)
	healed := h.healed
	h.mu.Unlock()
	if !healed {
		<-r.Context().Done()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.flying -= int(r.ContentLength)
	if !healed {
		return nil, r.Context().Err()
	}
	h.got[r.URL.Path] = append(h.got[r.URL.Path], sequence)
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: r, ProtoMajor: 1, ProtoMinor: 1}, nil
}

// run runs a dispatcher until the returned function ends it.
func (f *fleet) run(t *testing.T, rt http.RoundTripper) (end func()) {
	t.Helper()
	d, err := newDispatcher(f, Config{Transport: rt, Version: "sim", Drain: time.Second, MaxInFlight: 10_000, Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
}

// heapMiB is what is in use after a collection.
func heapMiB() int {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int(stats.HeapAlloc >> 20)
}

// A thousand lanes that are behind, each at an endpoint that hangs, and events so
// large that a window of each would be most of a gigabyte.
func TestMemoryOfAThousandLanesBehindAtHangingEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lanes, events, size = 1000, 8, 100 << 10
		filler := bytes.Repeat([]byte("x"), size)
		f := newFleet(lanes, events, func(n int) store.Event {
			e := rowEvent(n, n%3)
			e.Data = append(append([]byte(`{"x":"`), filler...), `"}`...)
			return e
		}, nil)
		before := heapMiB()
		h := &hanging{got: map[string][]int{}}
		end := f.run(t, h)
		worst := 0
		for range 12 { // until the endpoints are parked, and some probes later
			time.Sleep(20 * time.Second)
			synctest.Wait()
			worst = max(worst, heapMiB()-before)
		}
		end()
		f.restart() // and all of them anew, with their rows
		end = f.run(t, h)
		for range 4 {
			time.Sleep(20 * time.Second)
			synctest.Wait()
			worst = max(worst, heapMiB()-before)
		}
		t.Logf("at worst %d MiB of heap, %d MiB of bodies in flight", worst, h.most>>20)
		if worst > 160 {
			t.Errorf("%d MiB of heap, want at most 160", worst)
		}
		h.mu.Lock()
		h.healed = true
		h.mu.Unlock()
		delivered := func() (n int) {
			h.mu.Lock()
			defer h.mu.Unlock()
			for _, got := range h.got {
				n += len(got)
			}
			return n
		}
		await(t, 2*time.Hour, "all delivered", func() bool { return delivered() == lanes*events })
		end()
		for path, got := range h.got {
			last := map[int]int{}
			for _, sequence := range got {
				if sequence <= last[sequence%3] {
					t.Fatalf("%s got %v: the keys' order is not kept", path, got)
				}
				last[sequence%3] = sequence
			}
		}
	})
}

// A lane that wants one event in a thousand keeps that event, not the page it came in.
func TestMemoryOfALaneThatMatchesRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pages = 60
		f := newFleet(1, pages*1000, func(n int) store.Event {
			e := rowEvent(n, n)
			if n%1000 == 0 {
				e.Type = "public.rare.inserted"
			}
			e.Data = append([]byte(`"`), bytes.Repeat([]byte("x"), 900)...)
			return e
		}, func(_ int, s *subscriptions.Spec) { s.Events = []string{"public.rare.*"} })
		f.slab = true
		before := heapMiB()
		h := &hanging{got: map[string][]int{}}
		end := f.run(t, h)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if held := heapMiB() - before; held > 16 {
			t.Errorf("%d MiB are held of %d events in as many pages", held, pages)
		}
		end()
	})
}

// BenchmarkCopy is what a lane pays for keeping an event.
func BenchmarkCopy(b *testing.B) {
	page := make([]*store.Event, 1000)
	for n := range page {
		e := rowEvent(n, n)
		e.Data = bytes.Repeat([]byte("x"), 500)
		page[n] = &e
	}
	for b.Loop() {
		var s slab
		for i := range page {
			_ = s.copy(page[i:])
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(page)), "ns/event")
}
