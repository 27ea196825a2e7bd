package web

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestAPayloadIsShownWithinBoundsHoweverItIsMade(t *testing.T) {
	deep := func(depth int, inner string) string {
		return strings.Repeat("[", depth) + inner + strings.Repeat("]", depth)
	}
	for name, raw := range map[string]string{
		"many members far down": deep(1000, strings.Repeat("0,", 120_000)+"0"),
		"nothing but depth":     deep(2000, ""),
		"a run of blanks":       "[" + strings.Repeat(" ", 250_000) + "1]",
		"depth within bounds":   deep(600, "1"),
		"many members":          "[" + strings.Repeat("0,", 120_000) + "0]",
		"brackets in texts":     `{"a":"[[[{{{\\\"[[","b":"` + strings.Repeat("[", 100_000) + `"}`,
	} {
		if !json.Valid([]byte(raw)) || len(raw) > maxShown {
			t.Fatalf("%s is not what is meant", name)
		}
		var text strings.Builder
		tokens := jsonTokens([]byte(raw))
		for _, of := range tokens {
			text.WriteString(of.Text)
		}
		if text.Len() > maxIndented {
			t.Errorf("%s: %d bytes are shown", name, text.Len())
		}
		var want, got any
		if json.Unmarshal([]byte(raw), &want) != nil || json.Unmarshal([]byte(text.String()), &got) != nil {
			t.Errorf("%s is shown as something else", name)
		}
		if a, _ := json.Marshal(want); true {
			if b, _ := json.Marshal(got); string(a) != string(b) {
				t.Errorf("%s is shown as something else", name)
			}
		}
		// What lies side by side is cut once, not built byte by byte.
		if n := testing.AllocsPerRun(1, func() { jsonTokens([]byte(raw)) }); n > 1000 {
			t.Errorf("%s: %.0f allocations", name, n)
		}
	}
	var shown strings.Builder
	for _, of := range jsonTokens([]byte(`{"a":[1,"x"],"b":null}`)) {
		shown.WriteString(of.Class + "(" + of.Text + ")")
	}
	const want = "({\n  )key(\"a\")(: [\n    )number(1)(,\n    )text(\"x\")(\n  ],\n  )key(\"b\")(: )word(null)(\n})"
	if shown.String() != want {
		t.Errorf("shown as %s, want %s", shown.String(), want)
	}
}
