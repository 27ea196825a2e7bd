// Package docs_test holds the documentation to what the program does: the
// commands of the pages are run, and their tables compared with the code.
package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/rowcall/rowcall/store/storetest"
)

// built is the program, built once for all tests of a run, in a folder that
// TestMain removes.
var (
	builtIn string
	built   = sync.OnceValues(func() (string, error) {
		var err error
		if builtIn, err = os.MkdirTemp("", "rowcall-docs-"); err != nil {
			return "", err
		}
		path := filepath.Join(builtIn, "rowcall")
		build := exec.Command("go", "build", "-buildvcs=false", "-o", path, "../cmd/rowcall")
		build.Stderr = os.Stderr
		return path, build.Run()
	})
)

func TestMain(m *testing.M) {
	storetest.Main(m, func() { _ = os.RemoveAll(builtIn) })
}

func program(t *testing.T) string {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatalf("build rowcall: %v", err)
	}
	return path
}
