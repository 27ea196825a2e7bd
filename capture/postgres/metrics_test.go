package postgres_test

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/store/storetest"
)

// gauges are the registry's gauges that are not 0, by name and state.
func gauges(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				if l.GetName() == "state" {
					name += " " + l.GetValue()
				}
			}
			if v := m.GetGauge().GetValue(); v != 0 {
				found[name] = v
			}
		}
	}
	return found
}

// The alert on a source that is away takes what any instance says of it.
func TestAnInstanceSaysNoMoreOfASourceThatAnotherCaptures(t *testing.T) {
	t.Parallel()
	at := storetest.URL(t)
	cipher := storetest.Cipher(t)
	w := newWorldAt(t, storetest.EmptyURL(t), storetest.OpenWith(t, store.Config{URL: at, Instance: "a", Cipher: cipher}))
	storetest.OpenWith(t, store.Config{URL: at, Instance: "b", Cipher: cipher})
	registry := prometheus.NewRegistry()
	config := w.config()
	config.Registerer, config.URL = registry, "postgres://nobody@127.0.0.1:1/nowhere"
	w.start(config)
	w.eventually(func() string {
		if got := gauges(t, registry); got["rowcall_source_state waiting"] != 1 {
			return fmt.Sprint("it does not wait: ", got)
		}
		return ""
	})
	if _, err := pool(t, at).Exec(t.Context(), `UPDATE rowcall.sources SET owner = 'b'`); err != nil {
		t.Fatal(err)
	}
	w.eventually(func() string {
		if got := gauges(t, registry); len(got) > 0 {
			return fmt.Sprint("it still says ", got)
		}
		return ""
	})
}
