package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/rowcall/rowcall/api/client"
)

// change is a member that differs.
type change struct {
	Path string `json:"path"`
	Old  any    `json:"old"`
	New  any    `json:"new"`
}

func valueText(v any) string {
	if v == nil {
		return "(default)"
	}
	text, err := json.Marshal(v)
	if err != nil {
		return "?"
	}
	return clean(string(text))
}

// shape is a spec as it is compared: what the API shows of it.
func shape(spec any) (map[string]any, error) {
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("compare subscription: %w", err)
	}
	var seen client.Spec
	if err := json.Unmarshal(text, &seen); err != nil {
		return nil, fmt.Errorf("compare subscription: %w", err)
	}
	if auth := seen.Endpoint.Auth; auth != nil {
		auth.Password, auth.Token, auth.ClientSecret = "", "", ""
	}
	if tls := seen.Endpoint.TLS; tls != nil {
		tls.ClientKey = ""
	}
	if text, err = json.Marshal(seen); err != nil {
		return nil, fmt.Errorf("compare subscription: %w", err)
	}
	members := map[string]any{}
	return members, json.Unmarshal(text, &members)
}

// differences are the members that differ, by their paths.
func differences(at string, old, want map[string]any) []change {
	var found []change
	for _, name := range slices.Sorted(maps.Keys(union(old, want))) {
		o, w := old[name], want[name]
		before, isObject := o.(map[string]any)
		after, isToo := w.(map[string]any)
		switch {
		case reflect.DeepEqual(o, w):
		case isObject && isToo, isToo && o == nil:
			found = append(found, differences(at+name+".", before, after)...)
		default:
			found = append(found, change{at + name, o, w})
		}
	}
	return found
}

// mergePatch makes of old what is wanted (RFC 7396).
func mergePatch(old, want map[string]any) map[string]any {
	patch := map[string]any{}
	for name := range union(old, want) {
		o, w := old[name], want[name]
		before, isObject := o.(map[string]any)
		after, isToo := w.(map[string]any)
		switch {
		case reflect.DeepEqual(o, w):
		case isObject && isToo:
			patch[name] = mergePatch(before, after)
		default:
			patch[name] = w // nil where it is not wanted: its default
		}
	}
	return patch
}

func union(a, b map[string]any) map[string]any {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]any{}
	}
	maps.Copy(all, b)
	return all
}

// secrets reports whether a declaration holds credentials.
func secrets(body map[string]any) bool { return len(withSecrets(nil, body)) > 0 }

// withSecrets is a patch of endpoint with the credentials of the declaration.
func withSecrets(patch, body map[string]any) map[string]any {
	out := maps.Clone(patch)
	if out == nil {
		out = map[string]any{}
	}
	endpoint, _ := body["endpoint"].(map[string]any)
	for _, name := range []string{"auth", "tls"} {
		if given, ok := endpoint[name].(map[string]any); ok {
			merged, _ := out[name].(map[string]any)
			out[name] = union(given, merged)
		}
	}
	return out
}
