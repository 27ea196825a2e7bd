package main

import (
	"bufio"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rowcall/rowcall/dispatch/hooktest"
)

func TestATailShowsAWriteAndItsAttemptAndATestShowsTheEndpoint(t *testing.T) {
	t.Parallel()
	database, _, env, receiver := delivering(t)

	tail := rowcall(t, env, "tail", "--type=public.orders.*", "--data")
	stdout, err := tail.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := tail.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := tail.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tail.Process.Kill(); _ = tail.Wait() })
	if line, err := bufio.NewReader(stderr).ReadString('\n'); err != nil || !strings.HasPrefix(line, "following from offset ") {
		t.Fatalf("%q, %v", line, err)
	}
	execSQL(t, database, "INSERT INTO orders VALUES (7)")
	lines := bufio.NewScanner(stdout)
	var seen []string
	overdue := time.AfterFunc(patience, func() { _ = tail.Process.Kill() })
	defer overdue.Stop()
	for len(seen) < 3 && lines.Scan() {
		seen = append(seen, lines.Text())
	}
	if len(seen) < 3 || !strings.Contains(seen[0], "  event    ") || !strings.HasSuffix(seen[0], "  public.orders.inserted  id=7") ||
		!strings.Contains(seen[1], `"row":{"id":7}`) || !strings.Contains(seen[2], "  attempt  ") || !strings.Contains(seen[2], "public.orders/id=7  try 1, delivered 200, ") || !strings.HasSuffix(seen[2], " ms, all") && !strings.HasSuffix(seen[2], "), all") {
		t.Errorf("tail:\n%s", strings.Join(seen, "\n"))
	}
	if got := call(t, env, "tail", "--type=a..b"); got.code != exitUsage || !strings.Contains(got.stderr, "query.type") {
		t.Errorf("a tail of no type: %+v", got)
	}

	if got := call(t, env, "subs", "test", "all"); got.code != exitOK || !strings.Contains(got.stdout, "outcome     delivered") {
		t.Errorf("test: %+v", got)
	}
	receiver.Script(func(hooktest.Delivery) hooktest.Reply {
		return hooktest.Reply{Status: http.StatusForbidden, Body: "who are you?"}
	})
	if got := call(t, env, "subs", "test", "all"); got.code != exitFailed || !strings.Contains(got.stdout, "failed (unauthorized)") || !strings.Contains(got.stdout, "who are you?") || got.stderr != "" {
		t.Errorf("test of an endpoint that refuses: %+v", got)
	}
	if n := len(receiver.Deliveries()); n != 3 {
		t.Errorf("%d deliveries", n)
	}
}
