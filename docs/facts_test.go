package docs_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/subscriptions"
)

// sources parses the Go files of a package, without its tests.
func sources(t *testing.T, dir string) []*ast.File {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("..", dir, "*.go"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files in %s: %v", dir, err)
	}
	var files []*ast.File
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}

// constants are the texts of a package's constants whose name or type is as
// given, without the empty one.
func constants(t *testing.T, dir string, wanted func(name, kind string) bool) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, file := range sources(t, dir) {
		for _, declared := range file.Decls {
			group, ok := declared.(*ast.GenDecl)
			if !ok || group.Tok != token.CONST {
				continue
			}
			for _, spec := range group.Specs {
				value, ok := spec.(*ast.ValueSpec)
				if !ok || len(value.Values) != 1 {
					continue
				}
				kind, _ := value.Type.(*ast.Ident)
				literal, ok := value.Values[0].(*ast.BasicLit)
				if !ok || literal.Kind != token.STRING || !wanted(value.Names[0].Name, identifier(kind)) {
					continue
				}
				if text, err := strconv.Unquote(literal.Value); err == nil && text != "" {
					found[text] = true
				}
			}
		}
	}
	return found
}

func identifier(i *ast.Ident) string {
	if i == nil {
		return ""
	}
	return i.Name
}

func ofType(kind string) func(string, string) bool {
	return func(_, k string) bool { return k == kind }
}

func compare(t *testing.T, what string, shown, coded map[string]bool) {
	t.Helper()
	if len(coded) == 0 {
		t.Fatalf("%s: none was found in the code", what)
	}
	if diff := cmp.Diff(coded, shown); diff != "" {
		t.Errorf("%s (-code +page):\n%s", what, diff)
	}
}

func TestTheRunbookHasEveryReasonHoldAndState(t *testing.T) {
	t.Parallel()
	reasons := constants(t, "dispatch", func(name, kind string) bool {
		return kind == "Reason" || strings.HasPrefix(name, "reasonHold") || name == "reasonLogFull"
	})
	compare(t, "reasons", named(t, "runbook.md", "## Reasons"), reasons)
	holds := constants(t, "dispatch", ofType("Hold"))
	maps.Copy(holds, constants(t, "api", func(name, _ string) bool { return name == "conditionGap" })) // of all lanes, not of one
	compare(t, "holds", named(t, "outages.md", "## Why a subscription sends nothing"), holds)
	compare(t, "states of health", named(t, "outages.md", "## Health"), constants(t, "dispatch", ofType("HealthState")))
	compare(t, "states of deliveries", named(t, "outages.md", "## Deliveries"), constants(t, "store", ofType("DeliveryState")))
	states := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^### (.+)$`).FindAllStringSubmatch(section(t, "runbook.md", "## Source states"), -1) {
		states[m[1]] = true
	}
	compare(t, "states of sources", states, constants(t, "store", ofType("SourceState")))
	scopes := map[string]bool{}
	for _, scope := range api.Scopes() {
		scopes[string(scope)] = true
	}
	compare(t, "scopes", named(t, "security.md", "## API keys"), scopes)
}

// Answers and their reasons are those of dispatch.
func TestThePageOfAnswersHasEveryReasonOfOne(t *testing.T) {
	t.Parallel()
	text := section(t, "receiving.md", "## What your answer means")
	for reason := range constants(t, "dispatch", ofType("Reason")) {
		ours := slices.Contains([]string{"local_resource", "filter_error", "transform_error", "unknown"}, reason)
		if !ours && !strings.Contains(text, "`"+reason+"`") {
			t.Errorf("receiving.md does not say when an attempt fails with %s", reason)
		}
	}
}

func TestThePageOfEventsHasEveryNotice(t *testing.T) {
	t.Parallel()
	notices, form := map[string]bool{}, regexp.MustCompile(`^"(rowcall\.[a-z]+\.[a-z]+)"$`)
	for _, dir := range []string{"dispatch", "store", "capture/postgres"} {
		for _, file := range sources(t, dir) {
			ast.Inspect(file, func(n ast.Node) bool {
				if literal, ok := n.(*ast.BasicLit); ok {
					if m := form.FindStringSubmatch(literal.Value); m != nil && !strings.HasPrefix(m[1], "rowcall.event.") { // of spans
						notices[m[1]] = true
					}
				}
				return true
			})
		}
	}
	compare(t, "notices", named(t, "events.md", "## Notices"), notices)
}

// metricNames are the names that the code registers.
func metricNames(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	name := func(e ast.Expr) {
		if literal, ok := e.(*ast.BasicLit); ok && strings.HasPrefix(literal.Value, `"rowcall_`) {
			found[strings.Trim(literal.Value, `"`)] = true
		}
	}
	for _, dir := range []string{"api", "capture/postgres", "store", "dispatch", "cmd/rowcall"} {
		for _, file := range sources(t, dir) {
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.KeyValueExpr:
					if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Name" {
						name(n.Value)
					}
				case *ast.CallExpr:
					if f, ok := n.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "NewDesc" && len(n.Args) > 0 {
						name(n.Args[0])
					}
				}
				return true
			})
		}
	}
	return found
}

func TestThePageOfOperationsHasEveryMetric(t *testing.T) {
	t.Parallel()
	compare(t, "metrics", named(t, "operations.md", "## Metrics"), metricNames(t))
}

// Every member of a subscription has its place on the page, and its default is
// the one shown.
func TestThePageOfSubscriptionsHasEveryMember(t *testing.T) {
	t.Parallel()
	page := read(t, "subscriptions.md")
	spec, err := subscriptions.ParseSpec([]byte(`{"name":"paid-orders","events":["public.orders.*"],"endpoint":{"url":"http://127.0.0.1:9000/hook"}}`))
	if err != nil {
		t.Fatal(err)
	}
	written, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	standard, ok := number(t, written).(map[string]any)
	if !ok {
		t.Fatal("no object")
	}
	standard["start"] = "now"
	var shown map[string]any
	for _, b := range blocks(t, "subscriptions.md") {
		if b.mark == "subscription" {
			shown, _ = number(t, []byte(b.text)).(map[string]any)
			break
		}
	}
	if diff := cmp.Diff(standard, shown); diff != "" {
		t.Errorf("the subscription with every default (-code +page):\n%s", diff)
	}
	for member := range standard {
		for _, name := range inner(member, standard[member]) {
			if !strings.Contains(page, "`"+name+"`") {
				t.Errorf("subscriptions.md says nothing of %s", name)
			}
		}
	}
}

// inner are the names of the members that have a section of their own.
func inner(member string, value any) []string {
	members, ok := value.(map[string]any)
	if !ok || member != "endpoint" && member != "outage" {
		return []string{member}
	}
	var names []string
	for name := range members {
		names = append(names, member+"."+name)
	}
	return names
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#{1,6} (.+)$`)
	notSlug = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors are the places of a page that links may name.
func anchors(t *testing.T, page string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(read(t, page), -1) {
		found[strings.ReplaceAll(notSlug.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")] = true
	}
	return found
}

func TestEveryLinkLeadsSomewhere(t *testing.T) {
	t.Parallel()
	seen := 0
	for _, page := range append(pages(t), "../CONTRIBUTING.md", "../CHANGELOG.md") {
		text := read(t, page)
		for _, b := range blocks(t, page) {
			text = strings.Replace(text, b.text, "", 1)
		}
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			path, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(path, "://") {
				continue
			}
			seen++
			target := filepath.Join(filepath.Dir(page), path)
			if path == "" {
				target = page
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
				continue
			}
			if anchor != "" && !anchors(t, target)[anchor] {
				t.Errorf("%s links to %s, which has no such heading", page, m[1])
			}
		}
	}
	if seen < 30 {
		t.Errorf("only %d links", seen)
	}
}

// Everything that can be run is run, or says why not.
func TestNoBlockIsPassedOver(t *testing.T) {
	t.Parallel()
	known := []string{"", "run", "not run", "shows", "delivers", "subscription", "file"}
	for _, page := range pages(t) {
		for _, b := range blocks(t, page) {
			if !slices.Contains(known, b.mark) {
				t.Errorf("%s:%d: nothing is known of %q", page, b.line, b.mark)
			}
			if b.mark == "not run" && b.argument == "" {
				t.Errorf("%s:%d: it does not say why it is not run", page, b.line)
			}
		}
	}
}
