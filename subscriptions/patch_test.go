package subscriptions_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rowcall/rowcall/subscriptions"
)

func TestPatchFollowsRFC7396(t *testing.T) {
	t.Parallel()
	const before = `{` + required + `,"description":"d","labels":{"a":"1","b":"2"},"max_in_flight":8,
		"retry":{"initial":"2s","max":"2h","max_attempts":3,"max_age":"10d"}}`
	for name, c := range map[string]struct{ patch, want string }{
		"nothing":              {`{}`, before},
		"a member":             {`{"name":"m"}`, strings.Replace(before, `"name":"n"`, `"name":"m"`, 1)},
		"null resets":          {`{"max_in_flight":null,"description":null}`, `{` + required + `,"labels":{"a":"1","b":"2"},"retry":{"initial":"2s","max":"2h","max_attempts":3,"max_age":"10d"}}`},
		"an object is merged":  {`{"retry":{"max":"3h"}}`, strings.Replace(before, `"max":"2h"`, `"max":"3h"`, 1)},
		"null resets inside":   {`{"retry":{"max":null}}`, strings.Replace(before, `"max":"2h"`, `"max":"1h"`, 1)},
		"null resets a group":  {`{"retry":null}`, `{` + required + `,"description":"d","labels":{"a":"1","b":"2"},"max_in_flight":8}`},
		"a map is merged":      {`{"labels":{"a":null,"c":"3"}}`, strings.Replace(before, `{"a":"1","b":"2"}`, `{"b":"2","c":"3"}`, 1)},
		"null of no member":    {`{"labels":{"z":null}}`, before},
		"a map is reset":       {`{"labels":null}`, strings.Replace(before, `{"a":"1","b":"2"}`, `{}`, 1)},
		"an array is replaced": {`{"events":["x","y"]}`, strings.Replace(before, `["public.orders.*"]`, `["x","y"]`, 1)},
		"deep":                 {`{"endpoint":{"headers":{"X-A":"1"}}}`, strings.Replace(before, `/hooks"}`, `/hooks","headers":{"X-A":"1"}}`, 1)},
		"null onto null":       {`{"window":null}`, before},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := mustParse(t, before)
			got, err := spec.Patch([]byte(c.patch))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(mustParse(t, c.want), got); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(mustParse(t, before), spec); diff != "" {
				t.Errorf("the patched Spec itself changed: %s", diff)
			}
		})
	}
}

func TestPatchRefusesWhatParseSpecRefuses(t *testing.T) {
	t.Parallel()
	for patch, want := range map[string][]string{
		``:                             {": must be valid JSON; the fault is at byte 0"},
		`null`:                         {": must be a JSON object"},
		`[]`:                           {": must be a JSON object"},
		`"x"`:                          {": must be a JSON object"},
		`{"colour":null}`:              {"colour: is not known here; remove it"},
		`{"state":"paused"}`:           {"state: is not known here; remove it"},
		`{"Name":null}`:                {`name: is required`, `Name: must be written "name"`},
		`{"compact":null,"compact":1}`: {"compact: is given more than once"},
		`{"name":null,"events":null}`:  {"name: is required", `events: is required: 1 to 100 patterns such as "public.orders.*"`},
		`{"endpoint":null}`:            {"endpoint.url: is required"},
		`{"retry":{"max":"500ms"}}`:    {"retry.max: must not be below retry.initial"},
		`{"max_in_flight":0}`:          {"max_in_flight: must be from 1 to 1000"},
		`{"filter":" "}`:               {"filter: must not be empty; null stands for none"},
		`{"window":{"for":"4h"}}`: {
			`window.cron: must be a cron expression of five fields in UTC such as "0 2 * * *"`,
		},
	} {
		_, err := mustParse(t, "{"+required+"}").Patch([]byte(patch))
		if diff := cmp.Diff(want, faults(t, err)); diff != "" {
			t.Errorf("%s: %s", patch, diff)
		}
	}
}

func TestPatchOfASpecThatWasNeverNormalized(t *testing.T) {
	t.Parallel()
	spec := subscriptions.Spec{Name: "a", Events: []string{"**"}, Endpoint: subscriptions.Endpoint{URL: "https://example.com"}}
	got, err := spec.Patch([]byte(`{"name":"b","labels":{"k":"v"}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := mustParse(t, `{"name":"b","labels":{"k":"v"},"events":["**"],"endpoint":{"url":"https://example.com"}}`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if spec.Labels != nil || spec.Format != "" {
		t.Errorf("the patched Spec itself changed: %+v", spec)
	}
}

// mergePatch is the algorithm of RFC 7396, section 2, word for word. It changes
// target in place.
func mergePatch(target, patch any) any {
	members, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	merged, ok := target.(map[string]any)
	if !ok {
		merged = map[string]any{}
	}
	for name, value := range members {
		if value == nil {
			delete(merged, name)
		} else {
			merged[name] = mergePatch(merged[name], value)
		}
	}
	return merged
}

func toJSON(t *rapid.T, value any) []byte {
	b, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// document draws an object of the members, each left out at times, and null at
// times where nulls are wanted.
func document(members map[string]*rapid.Generator[any], nulls bool) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		result := map[string]any{}
		for _, name := range []string{
			"name", "description", "labels", "a", "b", "events", "endpoint", "url", "headers", "X-A", "X-B",
			"timeout", "ordering", "on_dead", "max_in_flight", "retry", "initial", "max", "batch", "max_bytes",
		} {
			generator, ok := members[name]
			if !ok {
				continue
			}
			switch kind := rapid.IntRange(0, 3).Draw(t, name+" is"); {
			case kind == 0 && nulls:
				result[name] = nil
			case kind >= 2:
				result[name] = generator.Draw(t, name)
			}
		}
		return result
	})
}

func anyOf(values ...any) *rapid.Generator[any] { return rapid.SampledFrom(values) }

func specDocument(nulls bool) *rapid.Generator[any] {
	members := func(m map[string]*rapid.Generator[any]) *rapid.Generator[any] { return document(m, nulls) }
	return members(map[string]*rapid.Generator[any]{
		"name":        anyOf("n", "m"),
		"description": anyOf("", "d"),
		"labels":      members(map[string]*rapid.Generator[any]{"a": anyOf("1", "2"), "b": anyOf("1", "2")}),
		"events":      anyOf([]any{"**"}, []any{"a", "b.*"}),
		"endpoint": members(map[string]*rapid.Generator[any]{
			"url": anyOf("https://a.example", "https://b.example"), "timeout": anyOf("1s", "30s"),
			"headers": members(map[string]*rapid.Generator[any]{"X-A": anyOf("1", "2"), "X-B": anyOf("1", "2")}),
		}),
		"ordering": anyOf("key", "none"), "on_dead": anyOf("skip", "block"), "max_in_flight": anyOf(1, 64, 1000),
		"retry": members(map[string]*rapid.Generator[any]{"initial": anyOf("1s", "5s"), "max": anyOf("1m", "7d")}),
		"batch": members(map[string]*rapid.Generator[any]{"max_bytes": anyOf(1024, 4096)}),
	})
}

func TestPatchOfTheSpecIsPatchOfItsJSON(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		before := any(map[string]any{"name": "n", "events": []any{"**"}, "endpoint": map[string]any{"url": "https://a.example"}})
		before = mergePatch(before, specDocument(false).Draw(t, "before"))
		patch := toJSON(t, specDocument(true).Draw(t, "patch"))

		spec, err := subscriptions.ParseSpec(toJSON(t, before))
		if err != nil {
			t.Fatalf("%s: %v", toJSON(t, before), err)
		}
		got, gotErr := spec.Patch(patch)

		var printed, asAny any
		if err := json.Unmarshal(toJSON(t, spec), &printed); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(patch, &asAny); err != nil {
			t.Fatal(err)
		}
		want, wantErr := subscriptions.ParseSpec(toJSON(t, mergePatch(printed, asAny)))
		if diff := cmp.Diff(wantErr, gotErr); diff != "" {
			t.Fatalf("errors differ: %s", diff)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzPatch(f *testing.F) {
	golden, err := os.ReadFile(filepath.Join("testdata", "default.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	for _, patch := range []string{`{}`, `{"labels":{"a":null,"b":"1"}}`, `{"retry":{"max":null}}`, `{"endpoint":{"headers":{"X-A":"1"}}}`, `{"window":{"cron":"TZ=0"}}`} {
		f.Add([]byte(patch))
	}
	f.Fuzz(func(t *testing.T, patch []byte) {
		before := mustParse(t, with(`"labels":{"a":"1"},"max_in_flight":3`))
		after, err := before.Patch(patch)
		if diff := cmp.Diff(mustParse(t, with(`"labels":{"a":"1"},"max_in_flight":3`)), before); diff != "" {
			t.Fatalf("the patched Spec itself changed: %s", diff)
		}
		if err != nil {
			faults(t, err)
			return
		}
		if err := after.Validate(); err != nil {
			t.Errorf("accepted, but not valid: %v", err)
		}
		// A merge patch is idempotent.
		again, err := after.Patch(patch)
		if err != nil {
			t.Fatalf("the same patch again: %v", err)
		}
		if diff := cmp.Diff(after, again); diff != "" {
			t.Errorf("the same patch again changes it: %s", diff)
		}
	})
}
