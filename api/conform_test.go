package api_test

import (
	"encoding/json"
	"mime"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// conforms holds an answer against the document: its status is declared for the
// route, its content type too, and its body is of the schema. Routes that the
// document does not know are let through.
func conforms(t *testing.T, doc *openapi3.T, r request, a answer) {
	t.Helper()
	path, _, _ := strings.Cut(r.path, "?")
	op := operation(doc, r.method, path)
	if op == nil {
		return
	}
	declared := op.Responses.Status(a.status)
	if declared == nil || declared.Value == nil {
		t.Errorf("%s %s: status %d is not in the document", r.method, path, a.status)
		return
	}
	if a.body == "" && len(declared.Value.Content) == 0 {
		return
	}
	media, _, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	content := declared.Value.Content[media]
	if err != nil || content == nil {
		t.Errorf("%s %s: %d with content type %q is not in the document", r.method, path, a.status, a.header.Get("Content-Type"))
		return
	}
	var body any
	if err := json.Unmarshal([]byte(a.body), &body); err != nil {
		return // nested deeper than this reader goes
	}
	if err := doc.ValidateSchemaJSON(content.Schema.Value, body, openapi3.MultiErrors()); err != nil {
		t.Errorf("%s %s: %d is not as the document says: %v\n%.500s", r.method, path, a.status, err, a.body)
	}
}

// operation finds the route of a path in the document.
func operation(doc *openapi3.T, method, path string) *openapi3.Operation {
	if item := doc.Paths.Value(path); item != nil && item.GetOperation(method) != nil {
		return item.GetOperation(method)
	}
	got := strings.Split(path, "/")
search:
	for template, item := range doc.Paths.Map() {
		want := strings.Split(template, "/")
		if len(want) != len(got) {
			continue
		}
		for i := range want {
			if want[i] != got[i] && (!strings.HasPrefix(want[i], "{") || got[i] == "") {
				continue search
			}
		}
		return item.GetOperation(method)
	}
	return nil
}
