package api_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/rowcall/rowcall/subscriptions"
)

// What the document says of bounds, words and defaults is what the parser holds.
func TestTheDocumentsBoundsAreThoseThatAreHeld(t *testing.T) {
	t.Parallel()
	doc := loadDocument(t, newBare(t))
	parse := func(path string, value any) error {
		body := map[string]any{"name": "x", "events": []string{"a.b"}, "endpoint": map[string]any{"url": "https://r.test"}}
		at := body
		parts := strings.Split(path, ".")
		for _, part := range parts[:len(parts)-1] {
			inner, ok := at[part].(map[string]any)
			if !ok {
				inner = map[string]any{}
				at[part] = inner
			}
			at = inner
		}
		at[parts[len(parts)-1]] = value
		raw, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		_, err = subscriptions.ParseSpec(raw)
		return err
	}
	held := func(path string, value any) bool { return parse(path, value) == nil }
	spec := subscriptions.Spec{Name: "x", Events: []string{"a.b"}}
	spec.Endpoint.URL = "https://r.test"
	spec.Normalize()
	raw, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	var defaults map[string]any
	if err := json.Unmarshal(raw, &defaults); err != nil {
		t.Fatal(err)
	}
	bounds, words, standards := 0, 0, 0
	var visit func(prefix string, schema *openapi3.Schema, defaults map[string]any)
	visit = func(prefix string, schema *openapi3.Schema, defaults map[string]any) {
		for name, ref := range schema.Properties {
			path, s := prefix+name, ref.Value
			if s.Default != nil && path != "start" {
				standards++
				if got := defaults[name]; fmt.Sprint(got) != fmt.Sprint(s.Default) {
					t.Errorf("%s: default is %v, the document says %v", path, got, s.Default)
				}
			}
			if s.Min != nil && s.Max != nil {
				bounds++
				step := 1.0
				if *s.Min < 1 {
					step = *s.Min / 2
				}
				for value, want := range map[float64]bool{*s.Min: true, *s.Max: true, *s.Min - step: false, *s.Max + step: false} {
					// 0 stands for the default.
					if got := held(path, value); value != 0 && got != want {
						t.Errorf("%s: %v is taken: %t, the document says %t", path, value, got, want)
					}
				}
			}
			for _, word := range s.Enum {
				words++
				if !held(path, word) {
					t.Errorf("%s: %v is refused: %v", path, word, parse(path, word))
				}
			}
			if len(s.Enum) > 0 && held(path, "nonsense") {
				t.Errorf("%s: a word outside the document is taken", path)
			}
			inner, _ := defaults[name].(map[string]any)
			visit(path+".", s, inner)
		}
	}
	visit("", doc.Components.Schemas["SubscriptionInput"].Value, defaults)
	if bounds < 4 || words < 7 || standards < 12 {
		t.Errorf("only %d bounds, %d words and %d defaults were checked", bounds, words, standards)
	}
}
