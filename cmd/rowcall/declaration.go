package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rowcall/rowcall/subscriptions"
)

// ownerLabel marks subscriptions that apply has made, with the owner of the file.
const ownerLabel = "rowcall/owner"

// declared is a document.
type declared struct {
	owner string
	subs  []declaredSub
}

type declaredSub struct {
	name string
	body map[string]any // as sent: with secrets
	want map[string]any // as compared: with defaults, and without secrets
}

// declared reads a document, with what its variables stand for, and judges all
// that it declares.
func (p *program) declared(path string) (declared, error) {
	raw, err := p.document(path)
	if err != nil {
		return declared{}, err
	}
	var missing []string
	expanded, _ := expand(raw, p.settings.env, &missing).(map[string]any)
	for _, name := range slices.Compact(slices.Sorted(slices.Values(missing))) {
		p.settings.add(fault{"${" + name + "}", "is not set", "set the environment variable, or write $${ for the characters themselves"})
	}
	doc := declared{}
	list, isList := expanded["subscriptions"].([]any)
	owner, isText := expanded["owner"].(string)
	if !isList {
		p.settings.add(fault{"subscriptions", "is no list", "declare subscriptions: a list of objects with name, events and endpoint"})
	}
	if _, given := expanded["owner"]; given && (!isText || owner == "") {
		p.settings.add(fault{"owner", "is no text", "name who declares these subscriptions, as in owner: billing"})
	}
	for key := range expanded {
		if key != "subscriptions" && key != "owner" {
			p.settings.add(fault{key, "is not known here", "a document has owner and subscriptions"})
		}
	}
	doc.owner = owner
	seen := map[string]bool{}
	for i, item := range list {
		at := fmt.Sprintf("subscriptions[%d]", i)
		body, ok := item.(map[string]any)
		if !ok {
			p.settings.add(fault{at, "is no object", "give it name, events and endpoint"})
			continue
		}
		if owner != "" {
			write(body, owner, "labels", ownerLabel)
		}
		d, faults := readDeclared(at, body)
		for _, f := range faults {
			p.settings.add(f)
		}
		if seen[d.name] && d.name != "" {
			p.settings.add(fault{at + ".name", "stands twice", "names are unique"})
		}
		seen[d.name] = true
		doc.subs = append(doc.subs, d)
	}
	return doc, p.settings.err()
}

func readDeclared(at string, body map[string]any) (declaredSub, []fault) {
	name, _ := body["name"].(string)
	d := declaredSub{name: name, body: body}
	text, err := json.Marshal(body)
	if err != nil {
		return d, []fault{{at, "cannot be written as JSON", "use texts as keys"}}
	}
	spec, err := subscriptions.ParseSpec(text, "start")
	if fields, ok := errors.AsType[subscriptions.FieldErrors](err); ok {
		var faults []fault
		for _, f := range fields {
			faults = append(faults, fault{strings.TrimSuffix(at+"."+f.Field, "."), f.Message, "see subscriptions in the API's document"})
		}
		return d, faults
	}
	if err != nil {
		return d, []fault{{at, err.Error(), "see subscriptions in the API's document"}}
	}
	if d.want, err = shape(spec); err != nil {
		return d, []fault{{at, err.Error(), "see subscriptions in the API's document"}}
	}
	return d, nil
}

// expand puts environment variables in the place of ${NAME}, in every text of a
// document; those that are missing are gathered.
func expand(v any, env func(string) (string, bool), missing *[]string) any {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			v[name] = expand(member, env, missing)
		}
	case []any:
		for i := range v {
			v[i] = expand(v[i], env, missing)
		}
	case string:
		return expandText(v, env, missing)
	}
	return v
}

func expandText(text string, env func(string) (string, bool), missing *[]string) string {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(text, "${")
		if !found {
			return b.String() + text
		}
		if strings.HasSuffix(before, "$") {
			b.WriteString(before + "{")
			text = after
			continue
		}
		name, rest, closed := strings.Cut(after, "}")
		if !closed {
			return b.String() + text
		}
		value, ok := env(name)
		if !ok || value == "" {
			*missing = append(*missing, name)
		}
		b.WriteString(before + value)
		text = rest
	}
}
