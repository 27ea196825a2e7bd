package api_test

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	diff "github.com/google/go-cmp/cmp"
)

const referencePage = "../docs/api.md"

func TestTheCommittedDocumentIsWrittenOutForPeople(t *testing.T) {
	t.Parallel()
	got := reference(loadDocument(t, newBare(t)))
	if *update {
		if err := os.WriteFile(referencePage, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(referencePage)
	if err != nil {
		t.Fatal(err)
	}
	if diff := diff.Diff(string(want), got); diff != "" {
		t.Errorf("docs/api.md is of another document; run the test with -update (-committed +served):\n%s", diff)
	}
}

const referenceHead = `# API reference

Made of the OpenAPI document that rowcall serves at ` + "`/v1/openapi.json`" + ` ([openapi.json](../api/openapi.json)), by a test that fails where the two differ.

- **Key**: ` + "`Authorization: Bearer <key>`" + `. Each route names the scope that it needs; ` + "`admin`" + ` may do everything. See [API keys](security.md#api-keys).
- **Lists** answer ` + "`{\"items\": […], \"next_cursor\": \"…\"}`" + `; ` + "`next_cursor`" + ` goes into ` + "`cursor`" + ` of the next request and is null at the end.
- **Errors** are problems ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)): ` + "`type`" + ` tells them apart, ` + "`errors`" + ` names each faulty member and never repeats its value.
- **POST again**: a POST with an ` + "`Idempotency-Key`" + ` that was seen in the last 24 hours is answered as it was then, and does nothing; another request with it is refused (422).
- **Unknown** members and parameters are refused, not ignored.
- **Times** are RFC 3339 in UTC; durations are written ` + "`15s`, `1h30m`, `7d`" + `.
`

// reference writes the document out as a page.
func reference(doc *openapi3.T) string {
	var b strings.Builder
	b.WriteString(referenceHead)
	type route struct {
		path, method string
		op           *openapi3.Operation
	}
	byTag := map[string][]route{}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			byTag[op.Tags[0]] = append(byTag[op.Tags[0]], route{path, method, op})
		}
	}
	order := []string{"GET", "POST", "PUT", "PATCH", "DELETE"}
	for _, tag := range slices.Sorted(maps.Keys(byTag)) {
		routes := byTag[tag]
		slices.SortFunc(routes, func(x, y route) int {
			return cmp.Or(strings.Compare(x.path, y.path), slices.Index(order, x.method)-slices.Index(order, y.method))
		})
		fmt.Fprintf(&b, "\n## %s\n", strings.ToUpper(tag[:1])+tag[1:])
		for _, r := range routes {
			writeRoute(&b, r.method, r.path, r.op)
		}
	}
	b.WriteString("\n## Objects\n")
	for _, name := range slices.Sorted(maps.Keys(doc.Components.Schemas)) {
		writeObject(&b, name, doc.Components.Schemas[name].Value)
	}
	return b.String()
}

func writeRoute(b *strings.Builder, method, path string, op *openapi3.Operation) {
	scope, _ := op.Extensions["x-scope"].(string)
	fmt.Fprintf(b, "\n### `%s %s`\n\n%s. Scope `%s`.\n", method, path, op.Summary, scope)
	if op.Description != "" {
		fmt.Fprintf(b, "\n%s\n", op.Description)
	}
	if len(op.Parameters) > 0 {
		b.WriteString("\n| parameter | in | | |\n|---|---|---|---|\n")
		for _, p := range op.Parameters {
			fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", p.Value.Name, p.Value.In, typeText(p.Value.Schema), cell(p.Value.Description))
		}
	}
	if op.RequestBody != nil {
		b.WriteString("\nBody:")
		content := op.RequestBody.Value.Content
		for i, kind := range slices.Sorted(maps.Keys(content)) {
			if i > 0 {
				b.WriteString(";")
			}
			fmt.Fprintf(b, " `%s` %s", kind, typeText(content[kind].Schema))
		}
		b.WriteString("\n")
	}
	var answers []string
	for _, status := range slices.Sorted(maps.Keys(op.Responses.Map())) {
		text := status
		if !strings.HasPrefix(status, "4") && !strings.HasPrefix(status, "5") {
			text = "**" + status + "**"
			for _, kind := range slices.Sorted(maps.Keys(op.Responses.Map()[status].Value.Content)) {
				text += " " + typeText(op.Responses.Map()[status].Value.Content[kind].Schema)
			}
		}
		answers = append(answers, text)
	}
	fmt.Fprintf(b, "\nAnswers: %s.\n", strings.Join(answers, ", "))
}

func writeObject(b *strings.Builder, name string, schema *openapi3.Schema) {
	fmt.Fprintf(b, "\n### %s\n", name)
	if schema.Description != "" {
		fmt.Fprintf(b, "\n%s\n", schema.Description)
	}
	if len(schema.Properties) == 0 {
		fmt.Fprintf(b, "\n%s.\n", typeText(&openapi3.SchemaRef{Value: schema}))
		return
	}
	b.WriteString("\n| member | | |\n|---|---|---|\n")
	for _, property := range slices.Sorted(maps.Keys(schema.Properties)) {
		p := schema.Properties[property]
		text := ""
		if p.Value != nil {
			text = p.Value.Description
		}
		if slices.Contains(schema.Required, property) && strings.HasSuffix(name, "Input") {
			text = strings.TrimSpace("Required. " + text)
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", property, typeText(p), cell(text))
	}
}

// typeText is a schema in a few words, with a link where it has a name.
func typeText(ref *openapi3.SchemaRef) string {
	if ref == nil || ref.Value == nil {
		return "anything"
	}
	if name, ok := strings.CutPrefix(ref.Ref, "#/components/schemas/"); ok {
		return "[" + name + "](#" + strings.ToLower(name) + ")"
	}
	s := ref.Value
	var parts []string
	switch {
	case len(s.OneOf)+len(s.AnyOf) > 0:
		for _, one := range append(slices.Clone(s.OneOf), s.AnyOf...) {
			parts = append(parts, typeText(one))
		}
		return strings.Join(parts, " or ")
	case len(s.Enum) > 0:
		for _, value := range s.Enum {
			parts = append(parts, fmt.Sprintf("`%v`", value))
		}
		return strings.Join(parts, ", ")
	case s.Type == nil:
		return "anything"
	}
	for _, kind := range s.Type.Slice() {
		switch {
		case kind == "array":
			kind = "array of " + typeText(s.Items)
		case kind == "string" && s.Format != "":
			kind = s.Format
		}
		parts = append(parts, kind)
	}
	text := strings.Join(parts, " or ")
	if s.Min != nil && s.Max != nil {
		text += fmt.Sprintf(", %v to %v", *s.Min, *s.Max)
	}
	if s.Default != nil {
		text += fmt.Sprintf("; default `%v`", s.Default)
	}
	return text
}

// cell is text that does not end a table's cell.
func cell(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "|", "\\|"), "\n", " ")
}
