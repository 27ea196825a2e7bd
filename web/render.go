package web

import (
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io/fs"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"
)

//go:embed templates/*.html
var templateFiles embed.FS

// pages are the templates, each with the frame and the pieces that all use.
type pages struct {
	byName map[string]*template.Template
}

// newPages parses them all, so that a fault in one stops the start and not a
// visitor. Files that begin with an underscore are pieces.
func newPages(a *assets) (*pages, error) {
	shared, err := template.New("").Funcs(template.FuncMap{
		"asset": a.path,
		"num":   number, "size": size, "words": words, "ms": milliseconds, "percent": percent,
		"when":      func(t any) moment { return at(t, time.Now()) },
		"condition": conditionState, "delivery": deliveryState, "source": sourceState, "outcome": outcomeState, "job": jobState,
		"reason": reasonText, "status": statusText,
		"host": hostOf, "join": strings.Join, "short": short, "tokens": jsonTokens,
		"conditions": conditions, "states": func() []string { return []string{"dead", "retrying", "blocked"} },
		"outcomes": outcomes, "tried": triedState, "isJSON": func(b json.RawMessage) bool { return len(b) > 0 && string(b) != "null" },
		"path":       url.PathEscape, // what a publisher made up may hold a slash
		"length":     func(b json.RawMessage) int64 { return int64(len(b)) },
		"textlength": func(text string) int64 { return int64(len(text)) },
		"iso":        func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"clock":      func(t time.Time) string { return t.UTC().Format("15:04") },
		"backward":   func(bands []band) []band { bands = slices.Clone(bands); slices.Reverse(bands); return bands },
		"offset":     func(sequence string) string { return strings.TrimLeft(sequence, "0") },
	}).ParseFS(templateFiles, "templates/_*.html")
	if err != nil {
		return nil, fmt.Errorf("parse templates: %w", err)
	}
	p := &pages{byName: map[string]*template.Template{}}
	names, err := fs.Glob(templateFiles, "templates/[a-z]*.html")
	if err != nil {
		return nil, fmt.Errorf("find templates: %w", err)
	}
	for _, file := range names {
		one, err := shared.Clone()
		if err == nil {
			_, err = one.ParseFS(templateFiles, file)
		}
		if err != nil {
			return nil, fmt.Errorf("parse templates: %w", err)
		}
		name := strings.TrimSuffix(path.Base(file), ".html")
		p.byName[name] = one.Lookup(path.Base(file))
	}
	return p, nil
}

// of returns a page's template; one that is not there is a fault of ours.
func (p *pages) of(name string) *template.Template {
	t := p.byName[name]
	if t == nil {
		panic("no such page: " + name)
	}
	return t
}

// notices are what a page says after an action, by the word in its address: a
// closed list, so that a link cannot put words into our mouth.
func notices() map[string]string {
	return map[string]string{
		"created":   "Created. It is delivered to from now on.",
		"saved":     "Saved. It counts within a second.",
		"paused":    "Paused. Its events are held, in order, until it is resumed.",
		"resumed":   "Resumed. Held events go out first, in order.",
		"probed":    "A probe is on its way.",
		"deleted":   "Deleted. Its attempts stay until their retention.",
		"retry":     "Asked for. It is tried as soon as its endpoint takes it; once delivered, it is no longer listed.",
		"discard":   "Discarded. Later events of its key go on.",
		"started":   "Started. It goes on by itself.",
		"accepted":  "Accepted. Deliveries that waited at the gap go on.",
		"revoked":   "Revoked. It stops working within seconds, everywhere.",
		"cancelled": "Cancelled. What was delivered stays delivered.",
	}
}
