package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

const schemaPrefix = "#/components/schemas/"

// body describes a request's body for the document. It is made of the Go type
// that the parser fills, so that the two cannot tell different stories; suffix
// keeps its schemas apart from those of answers, which require more members.
func (a *API) body(t reflect.Type, suffix string, required map[string][]string, mediaTypes ...string) *huma.RequestBody {
	inputs := huma.NewMapRegistry(schemaPrefix, func(t reflect.Type, hint string) string {
		return strings.TrimSuffix(huma.DefaultSchemaNamer(t, hint), suffix) + suffix
	})
	registerAliases(inputs)
	ref := inputs.Schema(t, true, "")
	for name, schema := range inputs.Map() {
		schema.Required = required[name]
		tidySchema(name, schema, inputs.TypeFromRef(schemaPrefix+name))
		a.huma.OpenAPI().Components.Schemas.Map()[name] = schema
	}
	body := &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{}}
	for _, name := range mediaTypes {
		body.Content[name] = &huma.MediaType{Schema: ref}
	}
	return body
}

// finishDocument completes the document that the routes have made, and returns it.
func (a *API) finishDocument() ([]byte, error) {
	doc := a.huma.OpenAPI()
	schemas := doc.Components.Schemas
	doc.Info.Description = "Row writes call webhooks: subscriptions to a database's changes, and what became of every event.\n\n" +
		"Errors are problems (RFC 9457), told apart by `type`: " + strings.Join(problemURIs(), ", ") + "."
	doc.Info.License = &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}
	doc.Components.SecuritySchemes = map[string]*huma.SecurityScheme{securityName: {
		Type: "http", Scheme: "bearer",
		Description: "An API key. A route names the scope it needs; a key with scope admin may do everything.",
	}}
	problemSchema := schemas.Schema(typeOf[problem](), true, "")
	doc.Components.Responses = map[string]*huma.Response{}
	for _, kind := range problemKinds() {
		doc.Components.Responses[problemName(kind.status)] = &huma.Response{
			Description: kind.title + ": " + kind.uri,
			Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: problemSchema}},
		}
	}
	for name, schema := range schemas.Map() {
		if t := schemas.TypeFromRef(schemaPrefix + name); t != nil {
			tidySchema(name, schema, t)
		}
	}
	for _, path := range doc.Paths {
		for _, op := range operations(path) {
			documentProblems(op)
		}
	}
	var uris []any
	for _, uri := range problemURIs() {
		uris = append(uris, uri)
	}
	schemas.Map()["Problem"].Properties["type"].Enum = uris
	// The framework's own form of an error, which no route answers with.
	delete(schemas.Map(), "ErrorModel")
	delete(schemas.Map(), "ErrorDetail")
	raw, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("write document: %w", err)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, raw, "", "  "); err != nil {
		return nil, fmt.Errorf("indent document: %w", err)
	}
	indented.WriteByte('\n')
	return indented.Bytes(), nil
}

func problemURIs() []string {
	var uris []string
	for _, kind := range problemKinds() {
		uris = append(uris, kind.uri)
	}
	return uris
}

// problemName is the name of a response in the document: "NotFound".
func problemName(status int) string { return strings.ReplaceAll(http.StatusText(status), " ", "") }

// operations are those of a path that there are, in a fixed order.
func operations(path *huma.PathItem) []*huma.Operation {
	all := []*huma.Operation{path.Get, path.Put, path.Post, path.Delete, path.Options, path.Head, path.Patch, path.Trace}
	return slices.DeleteFunc(all, func(op *huma.Operation) bool { return op == nil })
}

// documentProblems lists the problems that a route can answer with.
func documentProblems(op *huma.Operation) {
	statuses := append([]int{400, 401, 403, 422, 429, 500, 503}, op.Errors...)
	if strings.Contains(op.Path, "{") {
		statuses = append(statuses, 404)
	}
	if op.RequestBody != nil {
		statuses = append(statuses, 408, 409, 413, 415)
	}
	if slices.ContainsFunc(op.Parameters, func(p *huma.Param) bool { return p.Name == "If-Match" }) {
		statuses = append(statuses, 409, 412)
	}
	for _, status := range append(statuses, op.Errors...) {
		op.Responses[strconv.Itoa(status)] = &huma.Response{Ref: "#/components/responses/" + problemName(status)}
	}
	delete(op.Responses, "default")
}

// tidySchema corrects what the generator assumes: arrays are null here
// where they are pointers, and pointers to objects may be. Then it adds what contract says of the members.
func tidySchema(name string, schema *huma.Schema, t reflect.Type) {
	if schema.Properties == nil {
		return
	}
	nullable := map[string]bool{}
	collectNullable(t, nullable)
	for _, property := range slices.Sorted(maps.Keys(schema.Properties)) {
		s := schema.Properties[property]
		if s.Type == huma.TypeArray {
			s.Nullable = nullable[property]
		}
		if s.Ref != "" && nullable[property] {
			s = &huma.Schema{OneOf: []*huma.Schema{{Ref: s.Ref}, {Type: "null"}}}
			schema.Properties[property] = s
		}
		if doc, ok := memberDocs()[memberName(name, property)]; ok {
			doc.apply(s)
		}
	}
}

// collectNullable finds the members that are pointers and stay when nil.
func collectNullable(t reflect.Type, found map[string]bool) {
	for i := range t.NumField() {
		field := t.Field(i)
		tag := field.Tag.Get("json")
		switch {
		case field.Anonymous && tag == "" && field.Type.Kind() == reflect.Struct:
			collectNullable(field.Type, found)
		case field.Type.Kind() == reflect.Pointer && !strings.Contains(tag, ",omit"):
			name, _, _ := strings.Cut(tag, ",")
			found[name] = true
		}
	}
}
