package web

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rowcall/rowcall/api/client"
)

func TestTheTitleIsTheAnswer(t *testing.T) {
	t.Parallel()
	streaming := []client.Source{{Name: "main", State: "streaming"}}
	row := func(name, condition string) client.BoardRow { return client.BoardRow{Name: name, Condition: condition} }
	for _, c := range []struct {
		conditions map[string]int
		dead       int64
		worst      []client.BoardRow
		sources    []client.Source
		want       string
	}{
		{nil, 0, nil, streaming, "Nothing is delivered yet: there is no subscription."},
		{map[string]int{"healthy": 3}, 0, nil, streaming, "Everything flows."},
		{map[string]int{"healthy": 3, "failing": 1}, 0, nil, streaming, "Everything flows."},
		{map[string]int{"healthy": 3}, 1, nil, streaming, "Everything flows; 1 event ended undelivered."},
		{map[string]int{"healthy": 3}, 1800, nil, streaming, "Everything flows; 1,800 events ended undelivered."},
		{map[string]int{"healthy": 3, "parked": 1}, 9, []client.BoardRow{row("mail", "parked")}, streaming, "Everything flows, except to mail."},
		{map[string]int{"healthy": 3, "parked": 1, "disabled": 1}, 0, []client.BoardRow{row("a", "disabled"), row("b", "parked")}, streaming, "Everything flows, except to a and b."},
		{map[string]int{"healthy": 37, "parked": 3}, 0, []client.BoardRow{row("a", "parked")}, streaming, "Everything flows, except to 3 of 40 endpoints."},
		{map[string]int{"parked": 1}, 0, []client.BoardRow{row("mail", "parked")}, streaming, "Nothing flows: mail is not there."},
		{map[string]int{"parked": 3}, 0, nil, streaming, "Nothing flows: all 3 endpoints are not there."},
		{map[string]int{"parked": 3, "paused": 1}, 0, nil, streaming, "Nothing flows: 3 of 4 endpoints are not there."},
		{map[string]int{"paused": 2}, 0, nil, streaming, "Everything is paused or outside its window."},
		{map[string]int{"healthy": 1, "faulty": 1}, 0, []client.BoardRow{row("mail", "faulty")}, streaming, "Everything flows, except to mail."},
		{map[string]int{"healthy": 1}, 0, nil, []client.Source{{Name: "b", State: "waiting"}, {Name: "a", State: "gap"}}, "Changes of a may be lost."},
		{map[string]int{"healthy": 1}, 0, nil, []client.Source{{Name: "a", State: "waiting"}}, "Nothing is captured from a at the moment."},
		{map[string]int{"healthy": 1}, 0, nil, []client.Source{{Name: "a", State: "refused"}}, "Nothing is captured from a until somebody acts."},
	} {
		s := standing{Endpoints: client.BoardTotals{Conditions: c.conditions, Dead: c.dead}, Worst: c.worst, Sources: c.sources}
		if got := s.answer(); got != c.want {
			t.Errorf("%v dead %d: %q, want %q", c.conditions, c.dead, got, c.want)
		}
	}
}

func TestWhatIsSafeIsSaid(t *testing.T) {
	t.Parallel()
	s := standing{
		Endpoints: client.BoardTotals{Held: 46003, HeldBytes: 5 << 20, Retrying: 1, Dead: 18},
		Sources:   []client.Source{{State: "streaming"}},
	}
	want := "46,003 events are held in order (5.0 MiB), 1 event is being retried, 18 dead letters keep their payloads. Nothing is lost."
	if got := s.assurance(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for name, change := range map[string]func(*standing){
		"an accepted gap":  func(s *standing) { s.Sources = []client.Source{{State: "streaming", GapsAccepted: 1}} },
		"what is missing":  func(s *standing) { s.Balance.Unaccounted = 1 },
		"no known sources": func(s *standing) { s.Sources = nil },
	} {
		of := s
		if change(&of); of.assurance() != want[:len(want)-len(" Nothing is lost.")] {
			t.Errorf("%s: %q", name, of.assurance())
		}
	}
	lossy := standing{Sources: s.Sources, Balance: client.Balance{Dropped: 1204, Expired: 1}}
	if got := lossy.assurance(); got != "1,204 events were dropped by a hold limit or the log's bound, 1 dead letter has expired." {
		t.Errorf("of what is lost: %q", got)
	}
	s.Sources[0].State = "gap"
	if got := s.assurance(); got != want[:len(want)-len(" Nothing is lost.")] {
		t.Errorf("in a gap: %q", got)
	}
}

func TestWhatNeedsAPersonIsListedWorstFirst(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 14, 0, 0, 0, time.UTC)
	s := standing{
		Now: now, Sources: []client.Source{{Name: "main", State: "waiting", Reason: "connection refused"}, {Name: "b", State: "gap", Reason: "slot gone"}},
		Worst: []client.BoardRow{
			{Subscription: "sub_1", Name: "billing", Condition: "failing", Dead: 2},
			{Subscription: "sub_2", Name: "mail", Condition: "parked", Reason: "refused", Since: new(now.Add(-52 * time.Hour)), NextProbeAt: new(now.Add(11 * time.Minute)), Waiting: client.LogCount{Events: 46003}},
			{Subscription: "sub_3", Name: "old", Condition: "paused"},
			{Subscription: "sub_5", Name: "paid", Condition: "faulty", HoldError: "filter: no such key: total"},
			{Subscription: "sub_6", Name: "odd", Condition: "faulty", Reason: "its URL cannot be used"},
			{Subscription: "sub_4", Name: "gone", Condition: "disabled", StateReason: "answered 410"},
		},
	}
	var got []string
	for _, n := range s.needs() {
		got = append(got, n.State.Word+": "+n.Subject+" "+n.Text+" "+n.More)
	}
	want := []string{
		"gap: b may have lost changes; deliveries wait at the gap. slot gone.",
		"dead: billing 2 events ended undelivered. Their payloads are kept; retry them once the cause is mended, or discard them.",
		"faulty: paid has a filter or transform that fails on most events; they are held until it is edited. filter: no such key: total.",
		"faulty: odd cannot be sent to as it is set up; its events are held. its URL cannot be used.",
		"disabled: gone was disabled; its events are held. answered 410.",
		"waiting: main cannot be reached; it is tried again by itself. connection refused.",
		"parked: mail refused the connection; parked for 2 d 4 h. 46,003 events held in order. Next probe in 11 min.",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheBalanceAddsUp(t *testing.T) {
	t.Parallel()
	open, terms := balance(&client.Balance{
		Matched: 1_204_331, Delivered: 1_157_000, Waiting: 45_000, Retrying: 1204, Blocked: 1003, Dead: 10, DeadRanges: 8, Filtered: 100, Compacted: 3, Discarded: 2, Unaccounted: 1,
	}, &client.BoardTotals{OnTheWay: 14, Held: 45_989})
	sum, right := int64(0), 0.0
	for _, of := range terms {
		sum += of.Count
		if of.Wid < 4 || of.X < right {
			t.Errorf("%s is drawn at %v, %v wide", of.State.Word, of.X, of.Wid)
		}
		right = of.X + of.Wid
	}
	if sum != open || right > 1000.001 || right < 999.9 {
		t.Errorf("sum %d of %d, drawn to %v", sum, open, right)
	}
	if terms[1].Count != 14 || terms[3].Count != 45_989 || terms[len(terms)-1].State.Word != "unaccounted" {
		t.Errorf("%+v", terms)
	}
	if _, terms := balance(&client.Balance{}, &client.BoardTotals{}); len(terms) != 5 || terms[0].Wid != 0 {
		t.Error("nothing is drawn as something")
	}
}

func TestNumbersSizesAndTimesReadWell(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 14, 0, 0, 0, time.UTC)
	for _, c := range [][2]string{
		{number(0), "0"},
		{number(999), "999"},
		{number(1204331), "1,204,331"},
		{number(int64(-1000)), "−1,000"},
		{number((*int64)(nil)), "–"},
		{size(0), "0 B"},
		{size(1023), "1023 B"},
		{size(41 << 10), "41 KiB"},
		{size(1<<20 - 1), "1.0 MiB"},
		{size(3328599654), "3.1 GiB"},
		{size(1 << 62), "4096 PiB"},
		{words(250 * time.Microsecond), "250 µs"},
		{words(1300 * time.Millisecond), "1.3 s"},
		{words(59 * time.Second), "59 s"},
		{words(52 * time.Hour), "2 d 4 h"},
		{words(24 * time.Hour), "1 d"},
		{words(41 * 24 * time.Hour), "41 d"},
		{words(3*time.Hour + 2*time.Minute), "3 h 2 min"},
		{words(3 * time.Hour), "3 h"},
		{milliseconds(0.4), "0.4 ms"},
		{milliseconds(38), "38 ms"},
		{milliseconds(15000), "15.0 s"},
		{at(now.Add(-11*time.Minute), now).Text, "11 min ago"},
		{at(now.Add(time.Hour), now).Text, "in 1 h"},
		{at(now, now).Text, "now"},
		{at((*time.Time)(nil), now).Text, "–"},
		{at(now, now).Absolute, "2026-11-20 14:00:00.000 UTC"},
		{hostOf("https://a.example/x/"), "a.example/x"},
		{short(5, "a\n b  cdef"), "a b …"},
		{statusText(422), "422 Unprocessable Entity"},
		{statusText(0), ""},
		{statusText(799), "799"},
	} {
		if c[0] != c[1] {
			t.Errorf("%q, want %q", c[0], c[1])
		}
	}
}

func TestJSONIsCutIntoTokensThatAddUpToIt(t *testing.T) {
	t.Parallel()
	var got []token
	text := ""
	for _, of := range jsonTokens([]byte(`{"a":[1,-2.5e3,"x:\"y\\",true,null],"ü":"<b>"}`)) {
		text += of.Text
		if of.Class != "" {
			got = append(got, of)
		}
	}
	want := []token{{"key", `"a"`}, {"number", "1"}, {"number", "-2.5e3"}, {"text", `"x:\"y\\"`}, {"word", "true"}, {"word", "null"}, {"key", `"ü"`}, {"text", `"<b>"`}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if want := "{\n  \"a\": [\n    1,\n    -2.5e3,\n    \"x:\\\"y\\\\\",\n    true,\n    null\n  ],\n  \"ü\": \"<b>\"\n}"; text != want {
		t.Errorf("%s", text)
	}
	for _, odd := range []string{"", "{", "\xff", `{"a":"` + string(make([]byte, maxShown)) + `"}`} {
		if tokens := jsonTokens([]byte(odd)); len(tokens) == 0 {
			t.Errorf("%.10q is nothing", odd)
		}
	}
}
