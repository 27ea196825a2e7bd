package subscriptions_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowcall/rowcall/subscriptions"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const required = `"name":"n","events":["public.orders.*"],"endpoint":{"url":"https://example.com/hooks"}`

// with is a Spec document with further members.
func with(members string) string { return "{" + required + "," + members + "}" }

func mustParse(t testing.TB, document string) subscriptions.Spec {
	t.Helper()
	spec, err := subscriptions.ParseSpec([]byte(document))
	if err != nil {
		t.Fatalf("%s: %v", document, err)
	}
	return spec
}

// faults are the "field: message" lines of an error, which must be FieldErrors.
func faults(t testing.TB, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	list, ok := errors.AsType[subscriptions.FieldErrors](err)
	if !ok || len(list) == 0 {
		t.Fatalf("error is %T, not FieldErrors: %v", err, err)
	}
	lines := make([]string, len(list))
	for i, fault := range list {
		lines[i] = fault.Field + ": " + fault.Message
	}
	return lines
}

func fields(t testing.TB, err error) []string {
	t.Helper()
	lines := faults(t, err)
	for i, line := range lines {
		lines[i], _, _ = strings.Cut(line, ": ")
	}
	return lines
}

func TestSpecWithDefaultsIsTheContractsJSON(t *testing.T) {
	t.Parallel()
	b, err := json.MarshalIndent(mustParse(t, "{"+required+"}"), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	b = append(b, '\n')
	golden := filepath.Join("testdata", "default.json")
	if *update {
		if err := os.WriteFile(golden, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(b)); diff != "" {
		t.Error(diff)
	}
	// What is printed is what may be written.
	if diff := cmp.Diff(mustParse(t, "{"+required+"}"), mustParse(t, string(b))); diff != "" {
		t.Errorf("reads back as another Spec: %s", diff)
	}
}

func TestParseSpecReadsEveryMember(t *testing.T) {
	t.Parallel()
	got := mustParse(t, `{"name":"paid-orders","description":"two\nlines","labels":{"team":"growth"},
		"events":["public.orders.updated","user.**"],"filter":null,"transform":null,
		"endpoint":{"url":"http://mail.internal:8080/hooks?x=1","headers":{"X-Env":"prod"},"timeout":"2s","auth":null,"tls":null},
		"format":"cloudevents","ordering":"none","ordering_key":null,"on_dead":"block","compact":false,
		"max_in_flight":8,"rate_limit":null,"batch":{"max_events":1,"max_wait":"0s","max_bytes":2048},
		"retry":{"initial":"2s","max":"2h","max_attempts":3,"max_age":"10d"},
		"outage":{"probe":"5s..15m","hold_limit":{"age":"30d","bytes":null,"then":"dead-letter"}},
		"window":null,"signing":["v1"]}`)
	duration := func(s string) subscriptions.Duration {
		d, err := subscriptions.ParseDuration(s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	want := subscriptions.Spec{
		Name: "paid-orders", Description: "two\nlines", Labels: map[string]string{"team": "growth"},
		Events: []string{"public.orders.updated", "user.**"},
		Endpoint: subscriptions.Endpoint{
			URL: "http://mail.internal:8080/hooks?x=1", Headers: map[string]string{"X-Env": "prod"}, Timeout: duration("2s"),
		},
		Format: subscriptions.CloudEvents, Ordering: subscriptions.OrderNone, OnDead: subscriptions.Block, MaxInFlight: 8,
		Batch: subscriptions.Batch{MaxEvents: 1, MaxBytes: 2048},
		Retry: subscriptions.Retry{Initial: duration("2s"), Max: duration("2h"), MaxAttempts: 3, MaxAge: duration("240h")},
		Outage: subscriptions.Outage{
			Probe: "5s..15m", HoldLimit: subscriptions.HoldLimit{Age: duration("720h"), Then: "dead-letter"},
		},
		Signing: []string{"v1"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestNullStandsForTheDefault(t *testing.T) {
	t.Parallel()
	plain := mustParse(t, "{"+required+"}")
	got := mustParse(t, with(`"labels":null,"description":null,"retry":null,"signing":null,"max_in_flight":null,
		"format":null,"batch":{"max_bytes":null},"outage":{"hold_limit":{"age":null}}`))
	if diff := cmp.Diff(plain, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseSpecRefusesWhatIsNotTheContract(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`{"a":`, 65) + "1" + strings.Repeat("}", 65)
	for name, c := range map[string]struct {
		document string
		want     []string
	}{
		"nothing":      {``, []string{": must be valid JSON; the fault is at byte 0"}},
		"no JSON":      {`{"name":x}`, []string{": must be valid JSON; the fault is at byte 9"}},
		"more after":   {`{} {}`, []string{": must be valid JSON; the fault is at byte 4"}},
		"not UTF-8":    {"{\"name\":\"\xff\"}", []string{": must be valid UTF-8"}},
		"an array":     {`[]`, []string{": must be a JSON object"}},
		"null":         {`null`, []string{": must be a JSON object"}},
		"too deep":     {`{"a":` + deep + `}`, []string{": must not be nested deeper than 64"}},
		"unknown":      {with(`"colour":1`), []string{"colour: is not known here; remove it"}},
		"unknown deep": {with(`"retry":{"initial":"1s","jitter":1}`), []string{"retry.jitter: is not known here; remove it"}},
		"other case":   {with(`"Compact":false`), []string{`Compact: must be written "compact"`}},
		"folded letter": {with(`"\u017figning":["v1"]`), []string{
			`["\u017figning"]: must be written "signing"`,
		}},
		"other case deep": {with(`"retry":{"INITIAL":"1s"}`), []string{`retry.INITIAL: must be written "initial"`}},
		"twice":           {with(`"compact":false,"compact":false`), []string{"compact: is given more than once"}},
		"twice, escaped":  {with(`"compact":false,"\u0063ompact":false`), []string{"compact: is given more than once"}},
		"twice deep":      {with(`"batch":{"max_bytes":2048,"max_bytes":4096}`), []string{"batch.max_bytes: is given more than once"}},
		"twice in a map":  {with(`"labels":{"a":"1","a":"2"}`), []string{"labels.a: is given more than once"}},
		"wrong types": {with(`"labels":[],"description":1,"compact":"no","max_in_flight":1.5,"rate_limit":5,
			"batch":{"max_wait":5},"retry":{"max_attempts":"3","max_age":"3 days"},"signing":"v1"`), []string{
			"description: must be a string", "labels: must be a JSON object", "compact: must be true or false",
			"max_in_flight: must be a whole number", "rate_limit: must be a JSON object", "batch.max_wait: must be a string",
			"retry.max_attempts: must be a whole number", `retry.max_age: must be a duration such as "15s", "1h30m" or "30d"`,
			"signing: must be a JSON array",
		}},
		"null in a list":    {`{"name":"n","endpoint":{"url":"https://a.example"},"events":["a",null]}`, []string{"events[1]: must not be null"}},
		"number in a map":   {with(`"labels":{"a":1}`), []string{"labels.a: must be a string"}},
		"number too large":  {with(`"max_in_flight":99999999999999999999`), []string{"max_in_flight: must be a whole number"}},
		"explicit zeros":    {with(`"max_in_flight":0,"format":"","retry":{"initial":"0s"}`), []string{`format: must be "cloudevents" or "cloudevents-binary" or "raw"`, "max_in_flight: must be from 1 to 1000", "retry.initial: must be from 100ms to 1h"}},
		"faults of a group": {`{"name":1,"events":"a","endpoint":[]}`, []string{"name: must be a string", "events: must be a JSON array", "endpoint: must be a JSON object"}},
		"nothing required":  {`{}`, []string{"name: is required", `events: is required: 1 to 100 patterns such as "public.orders.*"`, "endpoint.url: is required"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec, err := subscriptions.ParseSpec([]byte(c.document))
			if diff := cmp.Diff(c.want, faults(t, err)); diff != "" {
				t.Errorf("%+v\n%s", spec, diff)
			}
		})
	}
}

func TestDepthOf64IsStillRead(t *testing.T) {
	t.Parallel()
	// One level is the Spec's own; the member is unknown, but it is read.
	document := `{"a":` + strings.Repeat(`[`, 63) + strings.Repeat("]", 63) + `,` + required + `}`
	_, err := subscriptions.ParseSpec([]byte(document))
	if diff := cmp.Diff([]string{"a: is not known here; remove it"}, faults(t, err)); diff != "" {
		t.Error(diff)
	}
}

func TestMembersOfTheCallerArePassedOver(t *testing.T) {
	t.Parallel()
	got, err := subscriptions.ParseSpec([]byte(with(`"start":{"offset":5}`)), "start")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(mustParse(t, "{"+required+"}"), got); diff != "" {
		t.Error(diff)
	}
	_, err = subscriptions.ParseSpec([]byte(with(`"start":1,"start":2,"retry":{"start":1}`)), "start")
	if diff := cmp.Diff([]string{"retry.start", "start"}, fields(t, err)); diff != "" {
		t.Error(diff)
	}
}

func TestFaultsComeInDocumentOrderAndNeverEchoSecrets(t *testing.T) {
	t.Parallel()
	const canary = "canary4711"
	_, err := subscriptions.ParseSpec([]byte(`{"` + canary + strings.Repeat("x", 100) + `\n":1,"signing":["` + canary + `"],
		"endpoint":{"auth":{"type":"bearer","token":{"` + canary + `":1},"password":"` + canary + `\n"},
			"headers":{"X-B":"` + canary + `\n","X-A":"` + canary + `\u0000"},"url":"https://u:` + canary + `@example.com/#` + canary + `"},
		"events":["a","b..c",5,"` + strings.Repeat("d.", 10) + `","*.**","e","f","g","h","i","**.j"],
		"filter":"` + canary + ` +","name":"` + canary + `\n"}`))
	want := []string{
		"name", "events[1]", "events[2]", "events[3]", "events[10]", "filter", "endpoint.url", "endpoint.headers.X-A",
		"endpoint.headers.X-B", "endpoint.auth.password", "endpoint.auth.token", "signing[0]",
	}
	got := fields(t, err)
	if diff := cmp.Diff(want, got[:len(got)-1]); diff != "" {
		t.Error(diff)
	}
	if last := got[len(got)-1]; len(last) > 80 || !strings.HasPrefix(last, `["canary`) {
		t.Errorf("unknown member is not last, quoted and cut: %s", last)
	}
	for _, fault := range faults(t, err) {
		if _, message, _ := strings.Cut(fault, ": "); strings.Contains(message, canary) {
			t.Errorf("message echoes what was given: %s", fault)
		}
	}
}

func TestErrorsNameEveryFieldInOneLine(t *testing.T) {
	t.Parallel()
	_, err := subscriptions.ParseSpec([]byte(`{"name":"n","events":["**"],"endpoint":{"url":"x"},"compact":1}`))
	want := "endpoint.url must start with https:// or http://; compact must be true or false"
	if err == nil || err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
	if _, err = subscriptions.ParseSpec([]byte(`[]`)); err == nil || err.Error() != "subscription must be a JSON object" {
		t.Errorf("error is %v", err)
	}
}

func TestFaultsOfOneAnswerAreBounded(t *testing.T) {
	t.Parallel()
	var document bytes.Buffer
	document.WriteString(`{"labels":{`)
	for i := range 5000 {
		if i > 0 {
			document.WriteByte(',')
		}
		document.WriteString(`"a":1`)
	}
	document.WriteString(`}}`)
	_, err := subscriptions.ParseSpec(document.Bytes())
	if n := len(faults(t, err)); n != 100 {
		t.Errorf("%d faults", n)
	}
}

func FuzzParseSpec(f *testing.F) {
	golden, err := os.ReadFile(filepath.Join("testdata", "default.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	for _, document := range []string{
		`{}`, "{" + required + "}", with(`"window":{"cron":"TZ=0","for":"4h"}`), with(`"labels":{"a":null}`),
		with(`"outage":{"probe":"0 0 30 2 *"}`), with(`"endpoint":{"tls":{"ca":"-----BEGIN"}}`), `[[[[`, `{"a":{"a":1,"a":2}}`,
		with(`"endpoint":{"url":"https://a.example","auth":{"type":"basic","username":"u","password":"p"}}`), with(`"format":"raw","signing":["v1a"]`),
	} {
		f.Add([]byte(document))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		spec, err := subscriptions.ParseSpec(document)
		if err != nil {
			for _, line := range faults(t, err) {
				if strings.HasSuffix(line, ": ") {
					t.Errorf("fault without a message: %q", line)
				}
			}
			return
		}
		if err := spec.Validate(); err != nil {
			t.Errorf("accepted, but not valid: %v", err)
		}
		b, err := json.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		if spec.Endpoint.Auth != nil || spec.Endpoint.TLS != nil {
			return // their secrets are not in the JSON form
		}
		if diff := cmp.Diff(spec, mustParse(t, string(b))); diff != "" {
			t.Errorf("reads back as another Spec: %s", diff)
		}
	})
}
