package api_test

import (
	"bytes"
	"flag"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/api"
)

var update = flag.Bool("update", false, "write openapi.json anew")

// newBare is an API without a store: enough for what the document says.
func newBare(t *testing.T) *api.API {
	t.Helper()
	a, err := api.New(nil, api.Config{URLs: anyURL{}, Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// documents are those that were read, by their text: to read the one that nearly
// every world has was a third of what the tests did.
var documents sync.Map

func loadDocument(t *testing.T, a *api.API) *openapi3.T {
	t.Helper()
	text := a.Document()
	read, _ := documents.LoadOrStore(string(text), sync.OnceValues(func() (*openapi3.T, error) {
		return openapi3.NewLoader().LoadFromData(text)
	}))
	doc, err := read.(func() (*openapi3.T, error))()
	if err != nil {
		t.Fatalf("read document: %v", err)
	}
	return doc
}

func TestTheCommittedDocumentIsTheOneThatIsServed(t *testing.T) {
	t.Parallel()
	got := newBare(t).Document()
	if *update {
		if err := os.WriteFile("openapi.json", got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("openapi.json differs from the document that is served; run the test with -update and look at the change (-committed +served):\n%s", diff)
	}
}

func TestTheDocumentIsValidOpenAPI31(t *testing.T) {
	t.Parallel()
	doc := loadDocument(t, newBare(t))
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("version %s", doc.OpenAPI)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Errorf("validate: %v", err)
	}
	for _, gone := range []string{"ErrorModel", "ErrorDetail", `"$schema"`, "unpkg"} {
		if bytes.Contains(newBare(t).Document(), []byte(gone)) {
			t.Errorf("the document holds %s", gone)
		}
	}
}

// A route that asks for nothing, or that is not in the document, is found here
// by walking the router itself.
func TestEveryRouteOfTheRouterDeclaresAScopeInTheDocument(t *testing.T) {
	t.Parallel()
	a := newBare(t)
	doc := loadDocument(t, a)
	router, ok := a.Handler().(chi.Routes)
	if !ok {
		t.Fatalf("handler is a %T, which cannot be walked", a.Handler())
	}
	public := []string{"/healthz", "/metrics", "/readyz", "/v1/openapi.json"}
	var seenPublic []string
	routes := 0
	err := chi.Walk(router, func(method, path string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		routes++
		if slices.Contains(public, path) && method == http.MethodGet {
			seenPublic = append(seenPublic, path)
			return nil
		}
		item := doc.Paths.Value(path)
		if item == nil || item.GetOperation(method) == nil {
			t.Errorf("%s %s is not in the document", method, path)
			return nil
		}
		op := item.GetOperation(method)
		scope, _ := op.Extensions["x-scope"].(string)
		if !slices.Contains(api.Scopes(), api.Scope(scope)) {
			t.Errorf("%s %s declares scope %q", method, path, scope)
		}
		if op.Security == nil || len(*op.Security) != 1 || !slices.Equal((*op.Security)[0]["key"], []string{scope}) {
			t.Errorf("%s %s: security is %v, want scope %s", method, path, op.Security, scope)
		}
		// Who may read may sign in.
		if (method == http.MethodGet) != (scope == "read") && path != "/v1/sessions" && scope != "admin" {
			t.Errorf("%s %s asks for scope %s", method, path, scope)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(public, slices.Sorted(slices.Values(seenPublic))); diff != "" {
		t.Errorf("routes without a key (-want +got):\n%s", diff)
	}
	if routes < 20 {
		t.Errorf("only %d routes were walked", routes)
	}
}
