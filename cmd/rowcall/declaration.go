package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/subscriptions"
)

// ownerLabel marks subscriptions that apply has made, with the owner of the file.
const ownerLabel = "rowcall/owner"

// declared is a document.
type declared struct {
	owner string
	prune bool // what the owner declared before, and does not any more, is deleted
	subs  []declaredSub
}

type declaredSub struct {
	at    string // where it stands, for messages
	name  string
	body  map[string]any // as sent: with secrets
	want  map[string]any // as compared: with defaults, and without secrets
	given api.Declaration
}

// declared reads the document of apply.
func (p *program) declared(path string) (declared, error) {
	raw, err := p.document(path)
	if err != nil {
		return declared{}, err
	}
	doc := p.settings.declared(raw, func(i int) string { return fmt.Sprintf("subscriptions[%d]", i) })
	if err := p.settings.err(); err != nil {
		return declared{}, err
	}
	for i := range doc.subs {
		write(doc.subs[i].body, doc.owner, "labels", ownerLabel)
		write(doc.subs[i].want, doc.owner, "labels", ownerLabel)
	}
	return doc, nil
}

// declared judges a document, with what its variables stand for. at says where the
// subscription of an index stands.
func (s *settings) declared(members map[string]any, at func(int) string) declared {
	var doc declared
	list, isList := members["subscriptions"].([]any)
	if !isList {
		s.add(fault{"subscriptions", "is no list", "declare subscriptions: a list of objects with name, events and endpoint"})
	}
	if owner, given := members["owner"]; given {
		doc.owner, _ = owner.(string)
		if n := utf8.RuneCountInString(doc.owner); n == 0 || n > 100 || strings.ContainsFunc(doc.owner, unicode.IsControl) {
			s.add(fault{"owner", "is no name", "name who declares these subscriptions in 1 to 100 characters, as in owner: billing"})
		}
	}
	if prune, given := members["prune"]; given {
		var isBool bool
		if doc.prune, isBool = prune.(bool); !isBool {
			s.add(fault{"prune", "is neither true nor false", "write prune: true to have what is not declared any more deleted"})
		}
		if doc.prune && doc.owner == "" {
			s.add(fault{"prune", "needs an owner", "name who declares these subscriptions, as in owner: billing: nobody else's are deleted"})
		}
	}
	for key := range members {
		if !declarationKeys[key] {
			s.add(fault{key, "is not known here", "a document has owner, prune and subscriptions"})
		}
	}
	seen := map[string]bool{}
	for i, item := range list {
		place := at(i)
		body, ok := item.(map[string]any)
		if !ok {
			s.add(fault{place, "is no object", "give it name, events and endpoint"})
			continue
		}
		d := s.declaredSub(place, body)
		if seen[d.name] && d.name != "" {
			s.add(fault{place + ".name", fmt.Sprintf("%q stands twice", d.name), "names are unique"})
		}
		seen[d.name] = true
		doc.subs = append(doc.subs, d)
	}
	return doc
}

// declarationKeys are what a document may have, and a configuration file beside its
// settings.
var declarationKeys = map[string]bool{"owner": true, "prune": true, "subscriptions": true}

const declarationRemedy = "see subscriptions in the API's document"

// declaredSub judges one subscription of a document.
func (s *settings) declaredSub(at string, body map[string]any) declaredSub {
	d := declaredSub{at: at, body: body}
	d.name, _ = body["name"].(string)
	before := len(s.faults)
	s.expand(at, body)
	missing := s.faults[before:] // what could not be filled in is not judged as well
	d.name, _ = body["name"].(string)
	text, err := json.Marshal(body)
	if err != nil {
		s.add(fault{at, "cannot be written as JSON", "use texts as keys"})
		return d
	}
	d.given, err = api.ReadDeclaration(text)
	if fields, ok := errors.AsType[subscriptions.FieldErrors](err); ok {
		for _, f := range fields {
			found := d.fault(f)
			if !slices.ContainsFunc(missing, func(m fault) bool { return strings.HasPrefix(m.setting, found.setting+": ") }) {
				s.add(found)
			}
		}
		return d
	}
	if err == nil {
		d.want, err = shape(d.given.Spec)
	}
	if err != nil {
		s.add(fault{at, err.Error(), declarationRemedy})
	}
	return d
}

// fault names a field of the subscription, and the subscription.
func (d *declaredSub) fault(f subscriptions.FieldError) fault {
	problem := f.Message
	if d.name != "" {
		problem = fmt.Sprintf("of %q %s", d.name, problem)
	}
	return fault{strings.TrimSuffix(d.at+"."+f.Field, "."), problem, declarationRemedy}
}

// expand puts what is referred to in the place of ${NAME}, an environment variable,
// and ${file:/path}, the content of a file, in every text of a value.
func (s *settings) expand(at string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			v[name] = s.expand(at+"."+name, member)
		}
	case []any:
		for i := range v {
			v[i] = s.expand(fmt.Sprintf("%s[%d]", at, i), v[i])
		}
	case string:
		return s.expandText(at, v)
	}
	return v
}

func (s *settings) expandText(at, text string) string {
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
		b.WriteString(before)
		if path, isFile := strings.CutPrefix(name, "file:"); isFile {
			content, _, _ := s.readSecret(at+": ${file:}", path)
			b.WriteString(content)
		} else {
			value, ok := s.env(name)
			if !ok || value == "" {
				s.add(fault{at + ": ${" + name + "}", "is not set", "set the environment variable, or write $${ for the characters themselves"})
			}
			b.WriteString(value)
		}
		text = rest
	}
}
