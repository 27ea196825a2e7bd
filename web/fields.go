package web

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/rowcall/rowcall/api/client"
)

// field is one member of a subscription as the form asks for it. Its name is the
// member's path, which is also what the API calls it when it is faulty.
type field struct {
	Name, Label, Help string
	Kind              string // text, area, lines, pairs, select, flag, secret, number
	Options           []string
	Texts             map[string]string // of options that are not their own name
	Example           string            // shown where it is empty: the default, or an example
	Required          bool
	Rows              int
	Create            bool // asked for at creation only

	// Set for a page.
	Value, Problem string
	Chosen         []string
}

// section is fields that belong together.
type section struct {
	Title, Text string
	Open        bool
	Fields      []field
}

// sections is the form: every member of a subscription that people write.
func sections() []section {
	return []section{
		{Title: "What goes where", Open: true, Fields: []field{
			{Name: "name", Label: "Name", Kind: "text", Required: true, Example: "paid-orders-to-mail"},
			{Name: "events", Label: "Events", Kind: "lines", Required: true, Rows: 3, Example: "public.orders.updated", Help: "A pattern a line: exact, or with * for one segment and ** for the rest."},
			{Name: "endpoint.url", Label: "URL", Kind: "text", Required: true, Example: "https://mail.example.com/hooks", Help: "Each event is posted to it, signed."},
			{Name: "start", Label: "Start", Kind: "text", Create: true, Example: "now", Help: "now, earliest, an offset, or a time such as 2026-11-20T12:00:00Z."},
			{Name: "description", Label: "Description", Kind: "text"},
			{Name: "labels", Label: "Labels", Kind: "pairs", Rows: 2, Example: "team=growth", Help: "key=value, one a line."},
		}},
		{Title: "Which events, and as what", Text: "Expressions in CEL over the event.", Fields: []field{
			{Name: "filter", Label: "Filter", Kind: "area", Rows: 2, Example: `data.row.total > 100.0 && 'status' in data.changed`},
			{Name: "transform", Label: "Transform", Kind: "area", Rows: 3, Example: `{"id": data.row.id, "total": data.row.total}`},
			{Name: "format", Label: "Format", Kind: "select", Options: []string{"cloudevents", "cloudevents-binary", "raw"}},
			{Name: "ordering", Label: "Order", Kind: "select", Options: []string{"key", "none"}, Help: "key: events of one key wait for each other, also across retries."},
			{Name: "ordering_key", Label: "Order by", Kind: "text", Example: "the row's primary key", Help: "Empty, or an expression such as data.row.customer_id."},
			{Name: "on_dead", Label: "After a dead letter", Kind: "select", Options: []string{"skip", "block"}, Help: "skip: its key goes on. block: its key waits for a person."},
			{Name: "compact", Label: "Compact", Kind: "flag", Help: "From a backlog, send only the newest event of each key."},
		}},
		{Title: "Who we are to the endpoint", Text: "Secrets are never shown again. Left empty, they stay as they are.", Fields: []field{
			{Name: "endpoint.headers", Label: "Headers", Kind: "pairs", Rows: 3, Example: "X-Env=prod", Help: "Name=value, one a line. They are shown to everyone who may read: no secrets."},
			{Name: "endpoint.auth.type", Label: "Authorization", Kind: "select", Options: []string{"", "basic", "bearer", "oauth2"}},
			{Name: "endpoint.auth.username", Label: "Username (basic)", Kind: "text"},
			{Name: "endpoint.auth.password", Label: "Password (basic)", Kind: "secret"},
			{Name: "endpoint.auth.token", Label: "Token (bearer)", Kind: "secret"},
			{Name: "endpoint.auth.token_url", Label: "Token URL (oauth2)", Kind: "text", Example: "https://login.example.com/token"},
			{Name: "endpoint.auth.client_id", Label: "Client ID (oauth2)", Kind: "text"},
			{Name: "endpoint.auth.client_secret", Label: "Client secret (oauth2)", Kind: "secret"},
			{Name: "endpoint.auth.scopes", Label: "Scopes (oauth2)", Kind: "lines", Rows: 2, Help: "One a line."},
			{Name: "endpoint.tls.client_certificate", Label: "Client certificate", Kind: "area", Rows: 3, Help: "PEM, with its chain."},
			{Name: "endpoint.tls.client_key", Label: "Its private key", Kind: "secret", Rows: 3, Help: "PEM."},
			{Name: "endpoint.tls.ca", Label: "Private authority", Kind: "area", Rows: 3, Help: "PEM: whom to trust in place of the system's authorities."},
			{Name: "signing", Label: "Signatures", Kind: "flags", Options: []string{"v1", "v1a"}, Help: "v1: HMAC-SHA256 with the secret. v1a: ed25519 with a public key."},
			{Name: "endpoint.trace_context", Label: "Trace context", Kind: "flag", Help: "Send the trace of an event along, as the header traceparent."},
		}},
		{Title: "How fast", Fields: []field{
			{Name: "max_in_flight", Label: "Requests at once", Kind: "number", Example: "64"},
			{Name: "rate_limit.per_second", Label: "Requests a second", Kind: "number", Example: "no limit"},
			{Name: "batch.max_events", Label: "Events in a request", Kind: "number", Example: "1"},
			{Name: "batch.max_wait", Label: "Wait for a full request", Kind: "text", Example: "0s"},
			{Name: "batch.max_bytes", Label: "Bytes in a request", Kind: "number", Example: "1048576"},
		}},
		{Title: "When it fails", Fields: []field{
			{Name: "endpoint.timeout", Label: "Timeout of a try", Kind: "text", Example: "15s"},
			{Name: "retry.initial", Label: "First retry after", Kind: "text", Example: "1s"},
			{Name: "retry.max", Label: "Then at most every", Kind: "text", Example: "1h"},
			{Name: "retry.max_attempts", Label: "Tries of an event", Kind: "number", Example: "20"},
			{Name: "retry.max_age", Label: "For at most", Kind: "text", Example: "72h", Help: "What is refused for its own sake is a dead letter then. Outages are not counted."},
			{Name: "outage.probe", Label: "Ask an endpoint that is down", Kind: "text", Example: "5s..15m", Help: "Growing intervals, or a cron expression in UTC."},
			{Name: "outage.hold_limit.age", Label: "Hold events for", Kind: "text", Example: "30d"},
			{Name: "outage.hold_limit.bytes", Label: "Hold at most, bytes", Kind: "number", Example: "no limit"},
			{Name: "outage.hold_limit.then", Label: "Beyond that", Kind: "select", Options: []string{"dead-letter", "drop"}},
			{Name: "window.cron", Label: "Deliver only from", Kind: "text", Example: "always", Help: "A cron expression in UTC, such as 0 2 * * *."},
			{Name: "window.for", Label: "For", Kind: "text", Example: "4h"},
		}},
	}
}

// fill puts a subscription's members into the form.
func fill(list []section, of map[string]any) {
	each(list, func(f *field) {
		switch v := member(of, f.Name).(type) {
		case nil:
		case string:
			f.Value = v
		case bool:
			if v {
				f.Value = "true"
			}
		case json.Number:
			f.Value = v.String()
		case []any:
			for _, item := range v {
				f.Chosen = append(f.Chosen, fmt.Sprint(item))
			}
			f.Value = strings.Join(f.Chosen, "\n")
		case map[string]any:
			var lines []string
			for key, value := range v {
				lines = append(lines, key+"="+fmt.Sprint(value))
			}
			slices.Sort(lines)
			f.Value = strings.Join(lines, "\n")
		}
	})
}

// each visits every field.
func each(list []section, visit func(*field)) {
	for i := range list {
		for j := range list[i].Fields {
			visit(&list[i].Fields[j])
		}
	}
}

// member finds a member by its path; nil where it is not there.
func member(of map[string]any, path string) any {
	var at any = of
	for name := range strings.SplitSeq(path, ".") {
		object, ok := at.(map[string]any)
		if !ok {
			return nil
		}
		at = object[name]
	}
	return at
}

// members is a subscription as its JSON has it.
func members(sub client.Subscription) (map[string]any, error) {
	sub.Secret = ""
	raw, err := json.Marshal(sub) //nolint:gosec // the API shows no secret here, and this one is empty
	if err != nil {
		return nil, fmt.Errorf("write subscription: %w", err)
	}
	decoder := json.NewDecoder(strings.NewReader(string(raw)))
	decoder.UseNumber()
	var of map[string]any
	if err := decoder.Decode(&of); err != nil {
		return nil, fmt.Errorf("read subscription: %w", err)
	}
	return of, nil
}

// setting is a member as a subscription's page shows it.
type setting struct{ Label, Value string }

type settingGroup struct {
	Title    string
	Settings []setting
}

// settingsOf lists what a subscription's members are; secrets are not among them.
func settingsOf(sub client.Subscription) ([]settingGroup, error) {
	of, err := members(sub)
	if err != nil {
		return nil, err
	}
	list := sections()
	fill(list, of)
	groups := make([]settingGroup, 0, len(list))
	for _, s := range list {
		g := settingGroup{Title: s.Title}
		for _, f := range s.Fields {
			if f.Value != "" && f.Kind != "secret" {
				g.Settings = append(g.Settings, setting{f.Label, f.Value})
			}
		}
		if len(g.Settings) > 0 {
			groups = append(groups, g)
		}
	}
	return groups, nil
}
