package docs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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

// panel is what is read of a dashboard.
type panel struct {
	ID      int    `json:"id"`
	Type    string `json:"type"`
	Title   string `json:"title"`
	GridPos struct{ X, Y, W, H int }
	Targets []struct{ Expr string }
}

func panels(t *testing.T) []panel {
	t.Helper()
	var dashboard struct{ Panels []panel }
	if err := json.Unmarshal([]byte(read(t, "../deploy/grafana/rowcall.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	if len(dashboard.Panels) < 10 {
		t.Fatalf("only %d panels", len(dashboard.Panels))
	}
	return dashboard.Panels
}

func TestThePanelsOfTheDashboardHavePlacesOfTheirOwn(t *testing.T) {
	t.Parallel()
	taken := map[[2]int]string{}
	ids := map[int]bool{}
	for _, p := range panels(t) {
		if ids[p.ID] || p.Title == "" || p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %d %q shows nothing, or its id is taken", p.ID, p.Title)
		}
		ids[p.ID] = true
		g := p.GridPos
		if g.X+g.W > 24 || g.W < 1 || g.H < 1 {
			t.Errorf("%s has no place: %+v", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("%s lies over %s", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
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

// container is what is read of one in a pod.
type container struct {
	Name            string
	Image           string
	Env             []struct{ Name, Value string }
	Resources       struct{ Requests, Limits map[string]string }
	LivenessProbe   map[string]any `yaml:"livenessProbe"`
	ReadinessProbe  map[string]any `yaml:"readinessProbe"`
	StartupProbe    map[string]any `yaml:"startupProbe"`
	SecurityContext struct {
		RunAsNonRoot             bool                    `yaml:"runAsNonRoot"`
		RunAsUser                int                     `yaml:"runAsUser"`
		ReadOnlyRootFilesystem   bool                    `yaml:"readOnlyRootFilesystem"`
		AllowPrivilegeEscalation *bool                   `yaml:"allowPrivilegeEscalation"`
		Capabilities             struct{ Drop []string } `yaml:"capabilities"`
		SeccompProfile           struct{ Type string }   `yaml:"seccompProfile"`
	} `yaml:"securityContext"`
	VolumeMounts []struct {
		Name      string
		MountPath string `yaml:"mountPath"`
		ReadOnly  bool   `yaml:"readOnly"`
	} `yaml:"volumeMounts"`
}

// manifest is what is read of a document for Kubernetes.
type manifest struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct{ Name string }
	StringData map[string]string `yaml:"stringData"`
	Data       map[string]string // of a ConfigMap
	Spec       struct {
		Selector any
		Template struct {
			Spec struct {
				TerminationGracePeriodSeconds int   `yaml:"terminationGracePeriodSeconds"`
				AutomountServiceAccountToken  *bool `yaml:"automountServiceAccountToken"`
				Containers                    []container
				Volumes                       []struct {
					Name   string
					Secret struct {
						SecretName string `yaml:"secretName"`
					}
				}
			}
		}
	}
}

func manifests(t *testing.T, path string) []manifest {
	t.Helper()
	d := yaml.NewDecoder(strings.NewReader(read(t, path)))
	var all []manifest
	for {
		var m manifest
		err := d.Decode(&m)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if m.APIVersion == "" || m.Kind == "" || m.Metadata.Name == "" {
			t.Errorf("%s: a document without apiVersion, kind or name", path)
		}
		all = append(all, m)
	}
}

// settingsShown are the variables of the page of operations; true: also as a file.
func settingsShown(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(ROWCALL_[A-Z_]+)`( \\*)? \\|").FindAllStringSubmatch(section(t, "operations.md", "## Settings"), -1) {
		found[m[1]] = m[2] != ""
	}
	return found
}

func checkSetting(t *testing.T, where, name string, settings map[string]bool) {
	t.Helper()
	if !strings.HasPrefix(name, "ROWCALL_") {
		return
	}
	if _, ok := settings[name]; ok {
		return
	}
	if stem, ok := strings.CutSuffix(name, "_FILE"); !ok || !settings[stem] {
		t.Errorf("%s: %s is no setting", where, name)
	}
}

var kubernetes = []string{"../deploy/kubernetes/deployment.yaml", "../deploy/kubernetes/sidecar.yaml"}

// rowcallIn is rowcall's container, and the keys of the secret that it sees.
func rowcallIn(t *testing.T, path string) (container, map[string]string) {
	t.Helper()
	var secret map[string]string
	for _, m := range manifests(t, path) {
		if m.Kind == "Secret" {
			secret = m.StringData
		}
		for _, c := range m.Spec.Template.Spec.Containers {
			if c.Name == "rowcall" {
				spec := m.Spec.Template.Spec
				if spec.TerminationGracePeriodSeconds < 25 || spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken {
					t.Errorf("%s: a drain takes 20 s, and nobody needs a token of the cluster", path)
				}
				return c, secret
			}
		}
	}
	t.Fatalf("%s has no container rowcall", path)
	return container{}, nil
}

func TestContainersHaveNoRightsThatTheyDoNotNeed(t *testing.T) {
	t.Parallel()
	settings := settingsShown(t)
	for _, path := range kubernetes {
		c, secret := rowcallIn(t, path)
		s := c.SecurityContext
		if !s.RunAsNonRoot || s.RunAsUser != 65532 || !s.ReadOnlyRootFilesystem || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation ||
			!slices.Equal(s.Capabilities.Drop, []string{"ALL"}) || s.SeccompProfile.Type != "RuntimeDefault" {
			t.Errorf("%s: %+v", path, s)
		}
		if c.LivenessProbe == nil || c.ReadinessProbe == nil || c.StartupProbe == nil || c.Resources.Requests["memory"] == "" || c.Resources.Limits["memory"] == "" {
			t.Errorf("%s: a probe or a resource is missing", path)
		}
		var files []string
		for _, m := range c.VolumeMounts {
			if !m.ReadOnly {
				t.Errorf("%s: %s may be written to", path, m.MountPath)
			}
			for key := range secret {
				files = append(files, m.MountPath+"/"+key)
			}
			for _, document := range manifests(t, path) {
				for name, content := range document.Data {
					files = append(files, m.MountPath+"/"+name)
					for _, named := range regexp.MustCompile(`\$\{file:([^}]*)\}`).FindAllStringSubmatch(content, -1) {
						if _, key := filepath.Split(named[1]); secret[key] == "" {
							t.Errorf("%s: %s names %s, which the secret lacks", path, name, named[1])
						}
					}
				}
			}
		}
		for _, e := range c.Env {
			checkSetting(t, path, e.Name, settings)
			if settings[e.Name] {
				t.Errorf("%s: %s stands in the environment", path, e.Name)
			}
			if strings.HasPrefix(e.Value, "/") && !slices.Contains(files, e.Value) {
				t.Errorf("%s: %s names a file that is not there", path, e.Name)
			}
		}
	}
}

func TestTheComposeFileNamesWhatThereIs(t *testing.T) {
	t.Parallel()
	type service struct {
		Image       string
		Command     []string
		Environment map[string]string
		ReadOnly    bool     `yaml:"read_only"`
		CapDrop     []string `yaml:"cap_drop"`
		Volumes     []string
		Rest        map[string]any `yaml:",inline"`
	}
	var file struct {
		Name     string
		Services map[string]service
		Configs  map[string]struct{ Content string }
		Volumes  map[string]any
	}
	decodeYAML(t, "../deploy/compose.yaml", &file)
	var names []string
	for name := range file.Services {
		names = append(names, name)
	}
	slices.Sort(names)
	if diff := cmp.Diff([]string{"postgres", "receiver", "rowcall"}, names); diff != "" {
		t.Fatal(diff)
	}
	for name := range file.Services["rowcall"].Environment {
		checkSetting(t, "compose.yaml", name, settingsShown(t))
	}
	if s := file.Services["rowcall"]; !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) {
		t.Errorf("rowcall may write, or has capabilities: %+v", s)
	}
	mount, _, _ := strings.Cut(file.Services["receiver"].Volumes[0], ":")
	if _, err := os.Stat(filepath.Join("../deploy", mount)); err != nil {
		t.Errorf("the receiver is not there: %v", err)
	}
	w := newWorld(t) // its tables are captured
	w.sql(block{page: "compose.yaml", text: file.Configs["tables"].Content})
	w.captured("orders")
}

// The settings of the Kubernetes files start a real rowcall, and its metrics have
// the labels that the page of operations shows.
func TestTheSettingsOfKubernetesStartARealInstance(t *testing.T) {
	t.Parallel()
	for _, path := range kubernetes {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c, _ := rowcallIn(t, path)
			said, err := w.shell.run(t.Context(), t, "set -a; eval \"$(bin/rowcall keygen)\"")
			if err != nil {
				t.Fatalf("%v: %s", err, said)
			}
			script := "echo \"$ROWCALL_SECRET_KEY\" > secret-key; echo \"$ROWCALL_API_KEY\" > api-key; echo '" + w.database + "' | tee database-url > source-url\n"
			script += "unset ROWCALL_SECRET_KEY ROWCALL_API_KEY\necho \"whsec_$(head -c 32 /dev/urandom | base64)\" > signing-secret\n"
			here := strings.NewReplacer("/run/secrets/rowcall/", w.shell.dir+"/", "/etc/rowcall/", w.shell.dir+"/")
			var declares []string
			for _, m := range manifests(t, path) {
				for name, content := range m.Data {
					script += "cat > '" + name + "' <<'END'\n" + here.Replace(content) + "END\n"
					for _, sub := range regexp.MustCompile(`(?m)^ *- name: (.*)$`).FindAllStringSubmatch(content, -1) {
						declares = append(declares, sub[1])
					}
				}
			}
			if filepath.Base(path) == "sidecar.yaml" && len(declares) == 0 {
				t.Error("the sidecar declares no subscription")
			}
			for _, e := range c.Env {
				value := here.Replace(e.Value)
				switch e.Name {
				case "ROWCALL_LISTEN":
					value = w.listen
				case "ROWCALL_SOURCE_NAME":
					value = w.source
				}
				script += fmt.Sprintf("%s='%s'\n", e.Name, value)
			}
			if said, err := w.shell.run(t.Context(), t, script); err != nil {
				t.Fatalf("%v: %s", err, said)
			}
			w.outputs["serve"] = w.shell.start(t, "bin/rowcall serve")
			until(t, "it is not ready", func(ctx context.Context) error {
				said, err := w.shell.run(ctx, t, "bin/rowcall health --ready")
				if err != nil {
					return errors.New(said)
				}
				return nil
			})
			for _, name := range declares {
				said, err := w.shell.run(t.Context(), t, "ROWCALL_URL=http://"+w.listen+" bin/rowcall subscriptions get "+name+" -o json")
				if err != nil || !strings.Contains(said, `"managed_by": "`+w.source+`"`) {
					t.Errorf("%s is not declared: %v\n%s", name, err, said)
				}
			}
			resp, err := http.Get("http://" + w.listen + "/metrics")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			scrape, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			checkLabels(t, scrape)
			// A loss is seen as the growth of a series that is there before it.
			for reason := range constants(t, "dispatch", ofType("Reason")) {
				if !strings.Contains(string(scrape), `rowcall_dead_letters_total{reason="`+reason+`"} 0`) {
					t.Errorf("dead letters by %s are not at 0", reason)
				}
			}
			for _, series := range []string{
				`rowcall_given_up_events_total{reason="log_full",then="drop"} 0`, `rowcall_given_up_events_total{reason="hold_limit_age",then="dead-letter"} 0`,
				`rowcall_attempts_total{outcome="blocked",reason="blocked"} 0`, `rowcall_attempts_total{outcome="failed",reason="local_resource"} 0`,
				`rowcall_dead_range_dropped_events_total 0`, `rowcall_attempts_unrecorded_total 0`,
			} {
				if !strings.Contains(string(scrape), series+"\n") {
					t.Errorf("the scrape has no %s", series)
				}
			}
		})
	}
}

func checkLabels(t *testing.T, scrape []byte) {
	t.Helper()
	known, checked := shownLabels(t), 0
	for line := range bytes.Lines(scrape) {
		m := regexp.MustCompile(`^(rowcall_[a-z_]+)(?:\{(.*)\})? `).FindSubmatch(line)
		if m == nil {
			continue
		}
		checked++
		name := base(string(m[1]), known)
		var labels []string
		for _, l := range matcher.FindAllSubmatch(m[2], -1) {
			if string(l[1]) != "le" {
				labels = append(labels, string(l[1]))
			}
		}
		want := slices.Clone(known[name])
		slices.Sort(want)
		slices.Sort(labels)
		if !slices.Equal(want, labels) {
			t.Errorf("%s has the labels %v, shown as %v", name, labels, want)
		}
	}
	if checked < 10 {
		t.Errorf("only %d samples in\n%s", checked, scrape)
	}
}
