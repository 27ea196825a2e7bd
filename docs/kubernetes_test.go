package docs_test

import (
	"bytes"
	"context"
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

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

type containerPort struct {
	Name          string
	ContainerPort int `yaml:"containerPort"`
}

type probe struct {
	HTTPGet *struct{ Path, Port string } `yaml:"httpGet"`
	Exec    *struct{ Command []string }
}

// container is what is read of one in a pod.
type container struct {
	Name            string
	Image           string
	Env             []struct{ Name, Value string }
	Ports           []containerPort
	Resources       struct{ Requests, Limits map[string]string }
	LivenessProbe   *probe `yaml:"livenessProbe"`
	ReadinessProbe  *probe `yaml:"readinessProbe"`
	StartupProbe    *probe `yaml:"startupProbe"`
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
			Metadata struct{ Labels map[string]string }
			Spec     struct {
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

// Prometheus reaches the port that both ways of scraping ask for, and so do the
// probes, which ask it or the process itself.
func TestWhatIsScrapedListensWherePrometheusAsks(t *testing.T) {
	t.Parallel()
	var monitor struct {
		Spec struct {
			JobLabel string `yaml:"jobLabel"`
			Selector struct {
				MatchExpressions []struct {
					Key    string
					Values []string
				} `yaml:"matchExpressions"`
			}
			PodMetricsEndpoints []struct{ Port string } `yaml:"podMetricsEndpoints"`
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, "../deploy/kubernetes/podmonitor.yaml")), &monitor); err != nil {
		t.Fatal(err)
	}
	var scrape struct {
		ScrapeConfigs []struct {
			RelabelConfigs []struct {
				SourceLabels []string `yaml:"source_labels"`
				Regex        string
				Action       string
				TargetLabel  string `yaml:"target_label"`
			} `yaml:"relabel_configs"`
		} `yaml:"scrape_configs"`
	}
	if err := yaml.Unmarshal([]byte(read(t, "../deploy/prometheus/scrape.yaml")), &scrape); err != nil {
		t.Fatal(err)
	}
	kept, job := "", ""
	for _, r := range scrape.ScrapeConfigs[0].RelabelConfigs {
		switch {
		case r.Action == "keep" && slices.Equal(r.SourceLabels, []string{"__meta_kubernetes_pod_container_name"}):
			kept = r.Regex
		case r.TargetLabel == "job":
			job = r.SourceLabels[0]
		}
	}
	label := monitor.Spec.Selector.MatchExpressions[0]
	if monitor.Spec.JobLabel != label.Key || job != "__meta_kubernetes_pod_label_"+strings.NewReplacer(".", "_", "/", "_").Replace(label.Key) {
		t.Errorf("installations are told apart by %s, %s and %s", label.Key, monitor.Spec.JobLabel, job)
	}
	for _, path := range kubernetes {
		c, _ := rowcallIn(t, path)
		if c.Name != kept || len(c.Ports) != 1 || c.Ports[0].Name != monitor.Spec.PodMetricsEndpoints[0].Port {
			t.Errorf("%s: container %s with ports %v is not scraped", path, c.Name, c.Ports)
		}
		for _, m := range manifests(t, path) {
			if name := m.Spec.Template.Metadata.Labels[label.Key]; m.Kind == "Deployment" && !slices.Contains(label.Values, name) {
				t.Errorf("%s: no PodMonitor selects %s", path, name)
			}
		}
		for _, e := range c.Env {
			if e.Name == "ROWCALL_LISTEN" && e.Value != fmt.Sprint("0.0.0.0:", c.Ports[0].ContainerPort) {
				t.Errorf("%s: it listens on %s, and Prometheus asks the pod's address at %d", path, e.Value, c.Ports[0].ContainerPort)
			}
		}
		for _, p := range []*probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
			asks := p != nil && (p.HTTPGet != nil && p.HTTPGet.Path == "/healthz" && p.HTTPGet.Port == c.Ports[0].Name ||
				p.Exec != nil && slices.Equal(p.Exec.Command, []string{"/rowcall", "health"}))
			if !asks {
				t.Errorf("%s: a probe asks nobody: %+v", path, p)
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
	if file.Services["rowcall"].Rest["env_file"] == file.Services["receiver"].Rest["env_file"] {
		t.Error("the receiver is given rowcall's keys")
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
				case "ROWCALL_LISTEN": // on all addresses, where it is so
					_, port, _ := strings.Cut(w.listen, ":")
					host, _, _ := strings.Cut(e.Value, ":")
					value = host + ":" + port
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
			ask, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+w.listen+"/metrics", nil)
			if err != nil {
				t.Fatal(err)
			}
			ask.Host = "10.1.2.3:8080" // Prometheus and kubelet name the pod by its address
			resp, err := http.DefaultClient.Do(ask)
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
