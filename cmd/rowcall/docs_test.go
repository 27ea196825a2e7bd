package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// shownSetting is a row of a table of settings: names, meaning, default.
var shownSetting = regexp.MustCompile("(?m)^\\| (`ROWCALL_[^|]+) \\|[^|]*\\| ([^|]+) \\|$")

// The tables of settings name every setting of serve with its default, and no other.
func TestTheTablesOfSettingsAreThoseOfServe(t *testing.T) {
	t.Parallel()
	parser, err := kong.New(new(struct{ serveFlags }))
	if err != nil {
		t.Fatal(err)
	}
	standard := map[string]string{"ROWCALL_CONFIG": ""}
	for _, flag := range parser.Model.Flags {
		if flag.Name != "help" {
			standard[envName(flag.Name)] = flag.Default
		}
	}
	if len(standard) < 20 {
		t.Fatalf("only %d settings", len(standard))
	}
	for _, page := range []string{"../../docs/operations.md", "../../README.md"} {
		content, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		shown := map[string]bool{}
		for _, row := range shownSetting.FindAllStringSubmatch(string(content), -1) {
			names, defaults := regexp.MustCompile("`(ROWCALL_[A-Z_]+)`").FindAllStringSubmatch(row[1], -1), strings.Split(row[2], ", ")
			for i, name := range names {
				shown[name[1]] = true
				want, known := standard[name[1]]
				if !known {
					t.Errorf("%s names %s, which is no setting", page, name[1])
				}
				if want == "" {
					continue
				}
				if got := strings.Fields(defaults[min(i, len(defaults)-1)])[0]; got != "`"+want+"`" {
					t.Errorf("%s: the default of %s is %s, shown as %s", page, name[1], want, got)
				}
			}
		}
		for name := range standard {
			if !shown[name] {
				t.Errorf("%s lacks %s", page, name)
			}
		}
	}
}

// A variable that is set for one command is not taken by another: beside settings, the
// environment says which instance to ask, and how to print its answer.
func TestTheEnvironmentGivesSettingsAndConnectionsAndNoOtherFlags(t *testing.T) {
	t.Parallel()
	s := &settings{env: lookupIn(nil), names: settingNames()}
	parser, err := newParser(new(commands), &program{settings: s}, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	some := 0
	for _, node := range parser.Model.Leaves(false) {
		allowed := []string{"url", "api-key", "output", "config"}
		switch strings.Fields(node.Path())[0] {
		case "serve", "check":
			continue
		case "migrate":
			allowed = []string{"database-url", "database-wait", "log-level", "log-format", "config"}
		case "health":
			allowed = []string{"listen", "tls-cert-file", "tls-key-file", "config"}
		}
		for _, group := range node.AllFlags(false) {
			for _, flag := range group {
				if s.reads(flag) && !slices.Contains(allowed, flag.Name) {
					t.Errorf("%s: --%s is read from the environment", node.Path(), flag.Name)
				}
				some++
			}
		}
	}
	if some < 50 {
		t.Errorf("%d flags", some)
	}
	var cli commands
	environ := []string{"ROWCALL_TIMEOUT=9s", "ROWCALL_FORMAT=raw", "ROWCALL_NAME=x", "ROWCALL_URL=http://there", "ROWCALL_OUTPUT=json"}
	s.env = lookupIn(environ)
	if parser, err = newParser(&cli, &program{settings: s}, func(int) {}); err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse([]string{"subs", "create", "--format=cloudevents"}); err != nil {
		t.Fatal(err)
	}
	if c := cli.Subscriptions.Create; c.Timeout != "" || c.Format != "cloudevents" || c.Name != "" || c.URL != "http://there" || c.Output != "json" {
		t.Errorf("%+v", c)
	}
}

// Every command stands in the page of operations, with those under it, and in README.
func TestThePagesNameEveryCommand(t *testing.T) {
	t.Parallel()
	parser, err := kong.New(new(commands))
	if err != nil {
		t.Fatal(err)
	}
	read := func(path string) string {
		t.Helper()
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	operations, readme := read("../../docs/operations.md"), read("../../README.md")
	_, operations, _ = strings.Cut(operations, "\n## Commands\n")
	operations, _, _ = strings.Cut(operations, "\n## ")
	named := map[string]bool{}
	for _, command := range parser.Model.Children {
		named[command.Name] = true
		row := regexp.MustCompile("(?m)^\\| `" + command.Name + "` \\|(.*)$").FindStringSubmatch(operations)
		if row == nil || !strings.Contains(readme, "`"+command.Name+"`") {
			t.Errorf("operations.md or README.md lacks %s", command.Name)
			continue
		}
		for _, under := range command.Children {
			if !under.Hidden && !strings.Contains(row[1], "`"+under.Name+"`") {
				t.Errorf("operations.md lacks %s %s", command.Name, under.Name)
			}
		}
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\|").FindAllStringSubmatch(operations, -1) {
		if !named[row[1]] {
			t.Errorf("operations.md names %s, which is no command", row[1])
		}
	}
}
