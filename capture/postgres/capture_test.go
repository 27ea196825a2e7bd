package postgres_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowcall/rowcall/store"
)

func TestACommittedRowIsInTheLogOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`CREATE TABLE things (n bigint PRIMARY KEY)`)
	w.capture()
	w.exec(`INSERT INTO things VALUES (1)`, `INSERT INTO things VALUES (2), (3)`, `UPDATE things SET n = 4 WHERE n = 3`)
	w.awaitRows(3)
	if diff := cmp.Diff([]int64{1, 2, 3}, w.numbers()); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	src := w.saved()
	if src.Generation != 1 || src.Slot != w.slot() || src.SystemID == "" || src.Intent {
		t.Errorf("source is %+v", src)
	}
	if diff := cmp.Diff([]store.Relation{{Schema: "public", Name: "things", Identity: "default", Captured: true, Key: []string{"n"}, Columns: []store.Column{{Name: "n", Type: "int8"}}}}, src.Relations); diff != "" {
		t.Errorf("relations (-want +got):\n%s", diff)
	}
}
