package api

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/store"
)

func TestASourceIsReadyOnlyWhileItsHeartbeatComesBack(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for name, c := range map[string]struct {
		source store.Source
		fault  string // part of it; empty: ready
	}{
		"streaming with a fresh heartbeat":      {store.Source{State: store.SourceStreaming, HeartbeatAt: ago(10 * time.Second)}, ""},
		"streaming with one of the last second": {store.Source{State: store.SourceStreaming, HeartbeatAt: ago(45 * time.Second)}, ""},
		"streaming with an old heartbeat":       {store.Source{State: store.SourceStreaming, HeartbeatAt: ago(46 * time.Second)}, "46s ago"},
		"streaming before the first":            {store.Source{State: store.SourceStreaming}, "no heartbeat"},
		"starting for a moment":                 {store.Source{State: store.SourceStarting, UpdatedAt: ago(time.Second)}, ""},
		"starting for long":                     {store.Source{State: store.SourceStarting, UpdatedAt: ago(2 * time.Minute)}, "starting for 2m0s"},
		"waiting":                               {store.Source{State: store.SourceWaiting, HeartbeatAt: now}, "cannot be reached"},
		"in gap":                                {store.Source{State: store.SourceGap, HeartbeatAt: now}, "gap"},
		"refused":                               {store.Source{State: store.SourceRefused, HeartbeatAt: now}, "cannot go on"},
		"in a state of a later version":         {store.Source{State: "dancing", HeartbeatAt: now}, "does not know"},
	} {
		got := sourceFault(c.source, now, 45*time.Second, time.Minute)
		if (got == "") != (c.fault == "") || !strings.Contains(got, c.fault) {
			t.Errorf("%s: %q, want %q", name, got, c.fault)
		}
	}
}

// rows is a readyStore in memory.
type rows struct {
	ping    error
	sources []store.Source
	calls   int
	block   bool
}

func (r *rows) Ping(ctx context.Context) error {
	r.calls++
	if r.block {
		<-ctx.Done()
		return ctx.Err()
	}
	return r.ping
}

func (r *rows) Sources(context.Context) ([]store.Source, error) { return r.sources, nil }

func TestReadinessNamesWhatIsWrongAndNotWhatServersSay(t *testing.T) {
	t.Parallel()
	config := Config{Logger: zerolog.Nop()}.withDefaults()
	streaming := []store.Source{{Name: "shop", State: store.SourceStreaming, HeartbeatAt: time.Now()}}
	cases := map[string]struct {
		rows  rows
		ready func(context.Context) error
		fault string // name of the check that fails
	}{
		"all is well":           {rows: rows{sources: streaming}},
		"the store is down":     {rows: rows{ping: errors.New("dial postgres://canary:canary@db")}, fault: "store"},
		"no source yet":         {rows: rows{}, fault: "sources"},
		"published alone":       {rows: rows{sources: []store.Source{{Name: "http", Kind: "http", State: store.SourceStreaming}}}, fault: "sources"},
		"a source is refused":   {rows: rows{sources: []store.Source{{Name: "shop", State: store.SourceRefused, Reason: "canary"}}}, fault: "source/shop"},
		"the service is ending": {rows: rows{sources: streaming}, ready: func(context.Context) error { return errors.New("draining") }, fault: "service"},
	}
	for name, c := range cases {
		config := config
		config.Ready = c.ready
		got := newReadiness(&c.rows, config).check(t.Context())
		if got.Ready != (c.fault == "") {
			t.Errorf("%s: ready %t", name, got.Ready)
		}
		for _, check := range got.Checks {
			if check.Ready != (check.Name != c.fault) {
				t.Errorf("%s: check %+v", name, check)
			}
			if strings.Contains(check.Error, "canary") {
				t.Errorf("%s: repeats %q", name, check.Error)
			}
		}
	}
}

func TestAskingOftenForReadinessCostsTheStoreLittle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &rows{}
		ready := newReadiness(r, Config{Logger: zerolog.Nop()}.withDefaults())
		for range 100 {
			ready.check(t.Context())
		}
		if r.calls != 1 {
			t.Errorf("asked %d times in a moment", r.calls)
		}
		<-time.After(readyAge)
		ready.check(t.Context())
		if r.calls != 2 {
			t.Errorf("asked %d times after a second", r.calls)
		}
	})
}

func TestAStoreThatHangsMakesItNotReadyInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		got := newReadiness(&rows{block: true}, Config{Logger: zerolog.Nop()}.withDefaults()).check(t.Context())
		if got.Ready || time.Since(start) != readyTimeout {
			t.Errorf("ready %t after %s", got.Ready, time.Since(start))
		}
	})
}
