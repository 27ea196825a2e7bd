package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowcall/rowcall/capture/postgres"
	"github.com/rowcall/rowcall/store/storetest"
)

// wantFinding checks that Check says what, with a remedy unless it is ok.
func (w *world) wantFinding(config postgres.Config, level, what string) {
	w.t.Helper()
	found, _, err := postgres.Check(w.t.Context(), config)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range found {
		if f.Level == level && strings.Contains(f.What, what) {
			if (f.Remedy == "") != (level == "ok") {
				w.t.Errorf("finding %+v: a remedy goes with what is not ok", f)
			}
			return
		}
	}
	w.t.Errorf("no %s says %q: %+v", level, what, found)
}

func TestCheckSaysWhatItFindsAndCreatesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`CREATE TABLE good (n bigint PRIMARY KEY)`, `CREATE TABLE bad (n bigint)`)
	before := w.inventory()
	w.wantFinding(w.config(), "ok", "wal_level logical")
	w.wantFinding(w.config(), "ok", "replication connection opens")
	w.wantFinding(w.config(), "ok", "1 table would be captured")
	w.wantFinding(w.config(), "warning", "public.bad is left out")
	w.wantFinding(w.config(), "warning", "max_slot_wal_keep_size is unlimited")
	w.wantFinding(w.config(), "warning", "superuser")
	if diff := cmp.Diff(before, w.inventory()); diff != "" {
		t.Errorf("check changed the source (-before +after):\n%s", diff)
	}
	config := w.config()
	config.Tables = []string{"elsewhere.*"}
	w.wantFinding(config, "warning", "no table that can be captured")
}

// inventory is what could have been created.
func (w *world) inventory() string {
	w.t.Helper()
	var text string
	err := w.source.QueryRow(w.t.Context(), `SELECT
		(SELECT count(*) FROM pg_publication) || ' publications, ' ||
		(SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1) || ' slots, ' ||
		(SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'i', 'S', 'v')) || ' relations, ' ||
		(SELECT count(*) FROM pg_namespace) || ' schemas'`, w.slot()).Scan(&text)
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

func TestCheckWarnsOfSettingsThatBiteLater(t *testing.T) {
	t.Parallel()
	cluster := storetest.Cluster(t, map[string]string{"max_slot_wal_keep_size": "64MB", "wal_sender_timeout": "0"})
	w := newWorldAt(t, cluster.URL("postgres"), nil)
	w.wantFinding(w.config(), "warning", "max_slot_wal_keep_size is 64 MiB")
	w.wantFinding(w.config(), "warning", "wal_sender_timeout is off")
}

func TestAConfigurationIsToldAllItsFaults(t *testing.T) {
	t.Parallel()
	_, err := postgres.New(nil, postgres.Config{
		Name: "Bad-Name", Tables: []string{"rowcall.*", "noschema", `public."open`, "pg_catalog.pg_class"}, Heartbeat: 1, MaxValueBytes: -1,
	})
	for _, want := range []string{`name "Bad-Name"`, "url: missing", "schema rowcall", `"noschema"`, "closing quote", "system tables", "heartbeat 1ns", "max value bytes -1"} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
	if _, err := postgres.New(nil, postgres.Config{Name: strings.Repeat("a", 55), URL: "postgres://h/d"}); err != nil {
		t.Errorf("a name of 55 characters: %v", err)
	}
}
