package pgtemp

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// FindBin finds the folder of PostgreSQL's programs. It looks at
// ROWCALL_PG_BIN (which must then be right), PATH, what pg_config says, the
// folders of Debian's, the PGDG's and Homebrew's packages, newest first, and at
// npm's @embedded-postgres packages in .tools of this or an outer folder.
func FindBin(ctx context.Context) (string, error) {
	if dir := os.Getenv("ROWCALL_PG_BIN"); dir != "" {
		if !complete(dir) {
			return "", fmt.Errorf("find postgres: ROWCALL_PG_BIN is %s, which does not hold both postgres and initdb", dir)
		}
		return dir, nil
	}
	for _, dir := range candidates(ctx) {
		if complete(dir) {
			return dir, nil
		}
	}
	return "", errors.New("find postgres: no PostgreSQL server is installed where we look; " + remedy() +
		", or set ROWCALL_PG_BIN to the folder of postgres and initdb")
}

func remedy() string {
	if runtime.GOOS == "darwin" {
		return "install one (brew install postgresql@17)"
	}
	return "install one (apt-get install postgresql, dnf install postgresql-server)"
}

func candidates(ctx context.Context) []string {
	var dirs []string
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",
		"/usr/pgsql-*/bin",
		"/opt/homebrew/opt/postgresql*/bin",
		"/usr/local/opt/postgresql*/bin",
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	} {
		dirs = append(dirs, newestFirst(pattern)...)
	}
	if dir, err := os.Getwd(); err == nil {
		for {
			dirs = append(dirs, newestFirst(filepath.Join(dir, ".tools/node_modules/@embedded-postgres/*/native/bin"))...)
			if parent := filepath.Dir(dir); parent != dir {
				dir = parent
				continue
			}
			break
		}
	}
	return dirs
}

// newestFirst are the folders that match, the highest version number first.
func newestFirst(pattern string) []string {
	dirs, _ := filepath.Glob(pattern)
	slices.SortFunc(dirs, func(a, b string) int { return version(b) - version(a) })
	return dirs
}

// version is the first number in the part of the path that names the package.
func version(dir string) int {
	name := filepath.Base(filepath.Dir(dir))
	digits := strings.TrimLeftFunc(name, func(r rune) bool { return r < '0' || r > '9' })
	if end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		digits = digits[:end]
	}
	n, _ := strconv.Atoi(digits)
	return n
}

// complete reports whether the folder holds a server that can be run.
func complete(dir string) bool {
	for _, name := range []string{"postgres", "initdb"} {
		if _, err := exec.LookPath(filepath.Join(dir, name)); err != nil {
			return false
		}
	}
	return true
}
