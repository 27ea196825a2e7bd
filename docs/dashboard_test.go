package docs_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// panel is what is read of a dashboard.
type panel struct {
	ID          int    `json:"id"`
	Type        string `json:"type"`
	Title       string `json:"title"`
	GridPos     struct{ X, Y, W, H int }
	FieldConfig struct{ Defaults struct{ Unit string } }
	Targets     []struct{ Expr, LegendFormat string }
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

// A dashboard shows one installation; what it says of another would be taken for
// this one's.
func TestEveryPanelAsksForTheInstallationThatIsChosen(t *testing.T) {
	t.Parallel()
	for _, p := range panels(t) {
		for _, target := range p.Targets {
			found := selector.FindAllStringSubmatch(target.Expr, -1)
			if len(found) == 0 {
				t.Errorf("%s asks for nothing", p.Title)
			}
			for _, m := range found {
				if !strings.HasPrefix(m[2], `cluster=~"$cluster",namespace=~"$namespace",job=~"$job"`) {
					t.Errorf("%s: %s is of any installation", p.Title, m[1])
				}
				if want := unitOf(m[1], target.Expr); !slices.Contains(want, p.FieldConfig.Defaults.Unit) {
					t.Errorf("%s: %s in %s, want one of %v", p.Title, target.Expr, p.FieldConfig.Defaults.Unit, want)
				}
			}
			kept := []string{}
			if by := grouping.FindStringSubmatch(target.Expr); by != nil {
				kept = strings.Split(by[1], ", ")
			} else if !strings.Contains(target.Expr, "sum(") && !strings.Contains(target.Expr, "max(") {
				kept = append(kept, "instance")
			}
			for _, l := range kept {
				if l != "le" && !strings.Contains(target.LegendFormat, "{{"+l+"}}") {
					t.Errorf("%s: the legend %q does not tell by %s", p.Title, target.LegendFormat, l)
				}
			}
			if target.LegendFormat == "" {
				t.Errorf("%s has no legend", p.Title)
			}
		}
	}
}

// unitOf are the units that a panel may have for an expression of a metric.
func unitOf(name, expr string) []string {
	name = strings.TrimSuffix(name, "_bucket")
	switch {
	case name == "process_cpu_seconds_total":
		return []string{"short"} // seconds a second: cores
	case strings.HasSuffix(name, "_bytes"):
		return []string{"bytes"}
	case strings.HasSuffix(name, "_seconds"):
		return []string{"s"}
	case strings.Contains(expr, "increase("):
		return []string{"short"}
	case strings.Contains(expr, "rate("):
		return []string{"ops", "reqps", "short"}
	default:
		return []string{"short"}
	}
}
