package docs_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// alert is a rule of Prometheus.
type alert struct {
	Alert       string
	Expr        string
	For         string
	Labels      map[string]string
	Annotations map[string]string
}

func alerts(t *testing.T) []alert {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string
			Rules []alert
		}
	}
	decodeYAML(t, "../deploy/prometheus/alerts.yaml", &file)
	var found []alert
	for _, g := range file.Groups {
		found = append(found, g.Rules...)
	}
	if len(found) < 10 {
		t.Fatalf("only %d alerts", len(found))
	}
	return found
}

// decodeYAML reads a file of one document, in which nothing may be unknown.
func decodeYAML(t *testing.T, path string, to any) {
	t.Helper()
	d := yaml.NewDecoder(strings.NewReader(read(t, path)))
	d.KnownFields(true)
	if err := d.Decode(to); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func TestEveryAlertHasItsSectionInTheRunbook(t *testing.T) {
	t.Parallel()
	sections := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^### (\w+)$`).FindAllStringSubmatch(section(t, "runbook.md", "## Alerts"), -1) {
		sections[m[1]] = true
	}
	rules := map[string]bool{}
	for _, a := range alerts(t) {
		rules[a.Alert] = true
		if !strings.HasSuffix(a.Annotations["runbook_url"], "/docs/runbook.md#"+strings.ToLower(a.Alert)) {
			t.Errorf("%s leads to %s", a.Alert, a.Annotations["runbook_url"])
		}
		if a.Annotations["summary"] == "" || !slices.Contains([]string{"critical", "warning", "info"}, a.Labels["severity"]) {
			t.Errorf("%s has no summary, or the severity %q", a.Alert, a.Labels["severity"])
		}
		if a.For != "" {
			if _, err := time.ParseDuration(a.For); err != nil {
				t.Errorf("%s: %v", a.Alert, err)
			}
		}
	}
	compare(t, "alerts", sections, rules)
}

var (
	selector = regexp.MustCompile(`\b((?:rowcall|process|go)_[a-z_]+|up)\b(?:\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`(\w+)(=~|!~|!=|=)"([^"]*)"`)
	grouping = regexp.MustCompile(`\b(?:by|on) \(([a-z, ]+)\)`)
	// targets are the labels that a target has, by how it is scraped.
	targets = []string{"cluster", "namespace", "job", "instance"}
)

// shownLabels are the labels of each metric, as the page of operations has them.
func shownLabels(t *testing.T) map[string][]string {
	t.Helper()
	labels := map[string][]string{}
	row := regexp.MustCompile("(?m)^\\| `(rowcall_[a-z_]+)` \\|([^|]*)\\|")
	for _, m := range row.FindAllStringSubmatch(section(t, "operations.md", "## Metrics"), -1) {
		labels[m[1]] = []string{}
		for _, l := range regexp.MustCompile("`([a-z]+)`").FindAllStringSubmatch(m[2], -1) {
			labels[m[1]] = append(labels[m[1]], l[1])
		}
	}
	return labels
}

// base is the name of a histogram's metric.
func base(name string, known map[string][]string) string {
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if stem, ok := strings.CutSuffix(name, suffix); ok && known[stem] != nil {
			return stem
		}
	}
	return name
}

// What alerts and panels ask for is there: metrics, labels, and the values that
// labels are compared with.
func TestAlertsAndPanelsAskForWhatThereIs(t *testing.T) {
	t.Parallel()
	known := shownLabels(t)
	values := map[string]map[string]bool{
		"state":   union(constants(t, "store", ofType("SourceState")), constants(t, "store", ofType("DeliveryState")), constants(t, "dispatch", ofType("HealthState"))),
		"hold":    constants(t, "dispatch", ofType("Hold")),
		"reason":  constants(t, "dispatch", ofType("Reason")),
		"outcome": {"delivered": true, "failed": true, "blocked": true, "unknown": true},
	}
	used := map[string]bool{}
	check := func(where, expr string) {
		if strings.Count(expr, "(") != strings.Count(expr, ")") || strings.Count(expr, "{") != strings.Count(expr, "}") {
			t.Errorf("%s: brackets of %s", where, expr)
		}
		available := map[string]bool{"le": true}
		for _, l := range targets {
			available[l] = true
		}
		for _, m := range selector.FindAllStringSubmatch(expr, -1) {
			name := base(m[1], known)
			if !strings.HasPrefix(name, "rowcall_") {
				continue
			}
			used[name] = true
			labels, ok := known[name]
			if !ok {
				t.Errorf("%s: there is no metric %s", where, m[1])
			}
			for _, l := range labels {
				available[l] = true
			}
			for _, c := range matcher.FindAllStringSubmatch(m[2], -1) {
				if !slices.Contains(slices.Concat(labels, targets), c[1]) {
					t.Errorf("%s: %s has no label %s", where, name, c[1])
				}
				for value := range strings.SplitSeq(c[3], "|") {
					if values[c[1]] != nil && !values[c[1]][value] {
						t.Errorf("%s: %s of %s is never %q", where, c[1], name, value)
					}
				}
			}
		}
		for _, m := range grouping.FindAllStringSubmatch(expr, -1) {
			for l := range strings.SplitSeq(m[1], ",") {
				if !available[strings.TrimSpace(l)] {
					t.Errorf("%s: nothing has the label %s in %s", where, l, expr)
				}
			}
		}
	}
	for _, a := range alerts(t) {
		check(a.Alert, a.Expr)
	}
	for _, p := range panels(t) {
		for _, target := range p.Targets {
			check(p.Title, target.Expr)
		}
	}
	for name := range known {
		if !used[name] {
			t.Errorf("neither an alert nor a panel shows %s", name)
		}
	}
}

func union(sets ...map[string]bool) map[string]bool {
	all := map[string]bool{}
	for _, s := range sets {
		for name := range s {
			all[name] = true
		}
	}
	return all
}
