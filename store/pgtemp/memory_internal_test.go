package pgtemp

import (
	"cmp"
	"os"
	"path/filepath"
	"testing"
)

func TestAClusterIsInMemoryWhereItMayAndThereIsRoom(t *testing.T) {
	t.Parallel()
	for inMemory, want := range map[bool]string{true: cmp.Or(memoryDir(), os.TempDir()), false: os.TempDir()} {
		c := &Cluster{config: Config{InMemory: inMemory}}
		if err := c.makeDir(); err != nil {
			t.Fatal(err)
		}
		if got := filepath.Dir(c.dir); got != filepath.Clean(want) {
			t.Errorf("with InMemory %v it is in %s, want %s", inMemory, got, want)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}
