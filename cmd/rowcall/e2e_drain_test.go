package main

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rowcall/rowcall/dispatch/hooktest"
	"github.com/rowcall/rowcall/store/pgtemp"
	"github.com/rowcall/rowcall/store/storetest"
)

// Whatever is down when it is told to end, rowcall ends in its time and well: what
// it could not save it says, and sends again.
func TestADrainWhileTheDatabaseIsDownEndsWellAndSaysWhatIsSentAgain(t *testing.T) {
	t.Parallel()
	cluster := storetest.Cluster(t, nil)
	w := newWorld(t, cluster, cluster)
	db := database(t, cluster)
	mustExec(t, db, `CREATE TABLE items (id bigint PRIMARY KEY)`)
	w.start(t)
	w.awaitState(t, "streaming")
	release := make(chan struct{})
	r := hooktest.Start(t, hooktest.Config{Reply: func(hooktest.Delivery) hooktest.Reply {
		<-release
		return hooktest.Reply{}
	}})
	w.subscribe(t, map[string]any{"name": "items", "events": []string{"public.items.*"}, "endpoint": map[string]any{"url": r.URL()}})
	const events = 3
	mustExec(t, db, `INSERT INTO items SELECT i FROM generate_series(1, $1) i`, events)
	waitFor(t, time.Minute, "they are in flight", func() bool { return r.Counts().Received == events }, w.gateway.tail)
	db.Close()
	if err := cluster.Stop(t.Context(), pgtemp.Immediate); err != nil {
		t.Fatal(err)
	}
	close(release)
	waitFor(t, time.Minute, "they are delivered", func() bool { return r.Counts().Succeeded == events }, w.gateway.tail)
	if err := w.gateway.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-w.gateway.done:
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
	if w.gateway.err != nil {
		t.Errorf("it ended with %v:\n%s", w.gateway.err, w.gateway.tail())
	}
	log := w.gateway.log.String()
	if !strings.Contains(log, "the last outcomes cannot be saved: their events are sent again, under the same ids") || !strings.Contains(log, `"events":3`) {
		t.Errorf("it does not say what it will send again:\n%s", w.gateway.tail())
	}
	if err := cluster.Restart(t.Context(), pgtemp.Immediate); err != nil {
		t.Fatal(err)
	}
	w.start(t)
	waitFor(t, time.Minute, "they are sent again", func() bool { return len(r.Duplicates()) == events }, w.gateway.tail)
	w.stop(t)
	for _, fault := range r.Check() {
		t.Error(fault)
	}
}
