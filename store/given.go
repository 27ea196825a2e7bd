package store

import (
	"encoding/json"
	"fmt"
)

// Given is what a publisher gave of an event beyond type, key, subject, id and
// data. It is immutable, as its event is.
type Given struct {
	Source     string      `json:"source,omitempty"`     // CloudEvents source; empty: /sources/http
	Time       string      `json:"time,omitempty"`       // RFC 3339, as it was written; empty: when it was appended
	Extensions []Extension `json:"extensions,omitempty"` // of CloudEvents, each name once
	Trace      string      `json:"trace,omitempty"`      // W3C traceparent of the request that published it: no attribute

	column string // its form in the log, once it was made
}

// Extension is an extension attribute of CloudEvents.
type Extension struct {
	Name  string          `json:"name"`  // [a-z0-9]+, and none of rowcall's own attributes
	Value json.RawMessage `json:"value"` // a JSON string, boolean or whole number
}

// Text is the value in the form of a header: a string without its quotes.
func (x Extension) Text() string {
	var text string
	if len(x.Value) > 0 && x.Value[0] == '"' && json.Unmarshal(x.Value, &text) == nil {
		return text
	}
	return string(x.Value)
}

// Size is about how many bytes of a body or of memory it takes; 0 for nil.
func (g *Given) Size() int {
	if g == nil {
		return 0
	}
	n := len(g.Source) + len(g.Time) + len(g.Trace)
	for _, x := range g.Extensions {
		n += len(x.Name) + len(x.Value)
	}
	return n
}

// text is its form in the log, empty for nothing given.
func (g *Given) text() string {
	if g == nil {
		return ""
	}
	return g.column
}

// forLog returns g as an event that is to be appended has it: nil for nothing.
func (g Given) forLog() (*Given, error) {
	if g.Source == "" && g.Time == "" && g.Trace == "" && len(g.Extensions) == 0 {
		return nil, nil
	}
	text, err := json.Marshal(g)
	if err != nil {
		return nil, fmt.Errorf("write what was given of an event: %w", err)
	}
	g.column = string(text)
	return &g, nil
}

// readGiven reads the form of text; nil for an empty one.
func readGiven(text []byte) (*Given, error) {
	if len(text) == 0 {
		return nil, nil
	}
	g := &Given{}
	if err := json.Unmarshal(text, g); err != nil {
		return nil, fmt.Errorf("read what was given of an event: %w", err)
	}
	return g, nil
}
