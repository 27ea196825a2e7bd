package main

import (
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/rowcall/rowcall/dispatch/hooktest"
	"github.com/rowcall/rowcall/store/storetest"
)

// delivering starts rowcall beside a database with a table of orders, whose events
// go to a receiver.
func delivering(t *testing.T) (database, addr string, env []string, receiver *hooktest.Receiver) {
	t.Helper()
	database = storetest.EmptyURL(t)
	execSQL(t, database, "CREATE TABLE orders (id int PRIMARY KEY)")
	c := newConfig(t, database)
	receiver = hooktest.Start(t, hooktest.Config{})
	addr = start(t, c)
	env = clientEnv(addr, c)
	eventually(t, env, "streaming", "sources")
	if got := call(t, env, "subs", "create", "--name=all", "--events=public.**", "--endpoint="+receiver.URL()); got.code != exitOK {
		t.Fatalf("create: %+v", got)
	}
	return database, addr, env, receiver
}

// What the interface promises under /metrics is there after one delivery.
func TestEveryMetricOfTheContractIsThere(t *testing.T) {
	t.Parallel()
	database, addr, _, receiver := delivering(t)
	execSQL(t, database, "INSERT INTO orders VALUES (1)")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := receiver.AwaitSucceeded(ctx, 1); err != nil {
		t.Fatal(err)
	}
	scrape := ""
	waitFor(t, patience, "the answer to the attempt is counted", func() bool {
		resp, err := http.Get("http://" + addr + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		scrape = string(body)
		return strings.Contains(scrape, "\nrowcall_delivery_seconds_count 1")
	}, func() string { return scrape })
	for _, name := range []string{
		`rowcall_captured_events_total{`, `rowcall_source_lag_bytes{`, `rowcall_source_lag_seconds{`, `rowcall_source_state{`,
		`rowcall_appended_events_total 1`, `rowcall_append_seconds_count 1`, `rowcall_attempts_total{outcome="delivered",reason=""} 1`,
		`rowcall_attempt_seconds_count 1`, `rowcall_delivery_seconds_count 1`, `rowcall_backlog_events{`, `rowcall_endpoint_health{state="healthy",`,
		`rowcall_oldest_undelivered_seconds{`,
		`rowcall_deliveries{state="dead"} 0`, `rowcall_log_bytes `, `go_goroutines `, `process_resident_memory_bytes `,
	} {
		if !strings.Contains(scrape, "\n"+name) {
			t.Errorf("%s is missing from:\n%s", name, scrape)
		}
	}
}

// memberForm finds the names in a line of JSON; quotes in values are escaped.
var memberForm = regexp.MustCompile(`"(\w+)":`)

func TestALogLineNamesEachFactOnce(t *testing.T) {
	t.Parallel()
	env := serveEnv(t, storetest.EmptyURL(t))
	p := serveProcess(t, env)
	eventually(t, []string{"ROWCALL_URL=http://" + p.addr, "ROWCALL_API_KEY=" + valueOf(env, "ROWCALL_API_KEY")}, "streaming", "sources")
	p.term(syscall.SIGTERM)
	components := map[string]bool{}
	for line := range p.log {
		seen := map[string]bool{}
		for _, name := range memberForm.FindAllStringSubmatch(line, -1) {
			if seen[name[1]] {
				t.Errorf("%s stands twice in %s", name[1], line)
			}
			seen[name[1]] = true
		}
		for _, component := range []string{"store", "capture"} {
			components[component] = components[component] || strings.Contains(line, `"component":"`+component+`"`)
		}
	}
	if code := p.wait(); code != exitOK || !components["store"] || !components["capture"] {
		t.Errorf("exit code %d, heard of %v", code, components)
	}
}
