package docs_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long a block, or what it leads to, may take.
const patience = 90 * time.Second

// shell is one bash that runs the blocks of a page one after the other, as a
// person would in a terminal: variables and files of one are there in the next.
type shell struct {
	dir   string
	in    io.Writer
	ended chan string // "status failed" of a block
	n     int
}

func newShell(t *testing.T, env []string) *shell {
	t.Helper()
	dir := t.TempDir()
	link := func(target, name string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	link(program(t), "bin/rowcall")
	link(here, "docs")
	cmd := exec.Command("bash", "--noprofile", "--norc")
	cmd.Dir, cmd.Env = dir, append(env, "PATH="+os.Getenv("PATH"), "HOME="+os.Getenv("HOME"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what it leaves running ends with it
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &shell{dir: dir, in: in, ended: make(chan string, 100)}
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			s.ended <- lines.Text()
		}
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		_ = in.Close()
		timer := time.AfterFunc(30*time.Second, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
		<-read
		_ = cmd.Wait()
		timer.Stop()
	})
	return s
}

// file writes a block for the shell and returns the names of it and of its output.
func (s *shell) file(t *testing.T, text string) (script, output string) {
	t.Helper()
	s.n++
	name := fmt.Sprintf("block-%d", s.n)
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return "./" + name, filepath.Join(s.dir, name+".out")
}

// run runs text and returns what it printed; an error where any command of it
// failed.
func (s *shell) run(ctx context.Context, t *testing.T, text string) (string, error) {
	t.Helper()
	script, output := s.file(t, text)
	fmt.Fprintf(s.in, "failed=0; trap 'failed=$?' ERR; . %s >%s 2>&1 </dev/null; echo \"$? $failed\"\n", script, output)
	select {
	case ended := <-s.ended:
		said, err := os.ReadFile(output)
		if err == nil && ended != "0 0" {
			err = fmt.Errorf("exit codes %s", ended)
		}
		return string(said), err
	case <-ctx.Done():
		said, _ := os.ReadFile(output)
		return string(said), fmt.Errorf("not done: %w", context.Cause(ctx))
	}
}

// start runs text beside what follows, and returns the file of its output.
func (s *shell) start(t *testing.T, text string) (output string) {
	t.Helper()
	script, output := s.file(t, text)
	fmt.Fprintf(s.in, "( . %s ) >%s 2>&1 </dev/null & echo started\n", script, output)
	if got := <-s.ended; got != "started" {
		t.Fatalf("start: %s", got)
	}
	return output
}

// missing returns the first line of want that is not in got, in its order; none
// is "". In want … stands for anything, and white space for white space.
func missing(want, got string) string {
	lines := strings.Split(got, "\n")
	for line := range strings.Lines(want) {
		line = strings.TrimSpace(line)
		if line == "" || line == "…" {
			continue
		}
		form := pattern(line)
		at := -1
		for i, l := range lines {
			if form.MatchString(l) {
				at = i
				break
			}
		}
		if at < 0 {
			return line
		}
		lines = lines[at+1:]
	}
	return ""
}
