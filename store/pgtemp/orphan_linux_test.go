package pgtemp_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rowcall/rowcall/store/pgtemp"
)

// childEnv makes the test binary a process that starts a cluster and waits to be killed.
const childEnv = "ROWCALL_PGTEMP_CHILD"

func child() {
	c, err := pgtemp.Start(context.Background(), pgtemp.Config{Dir: os.Getenv(childEnv), NoSync: true})
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	pid, _ := os.ReadFile(filepath.Join(c.Dir(), "data", "postmaster.pid"))
	line, _, _ := strings.Cut(string(pid), "\n")
	fmt.Println(line)
	select {}
}

func TestTheServerDiesWithAProcessThatIsKilled(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "pgtemp-orphan-") //nolint:usetesting // the server's user must get into it
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+filepath.Join(dir, "cluster"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	killed := cmd.Process.Kill()
	_ = cmd.Wait()
	if err != nil || killed != nil {
		t.Fatal(err, killed)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("the child said %q", line)
	}
	for deadline := time.Now().Add(20 * time.Second); syscall.Kill(pid, 0) == nil; {
		if time.Now().After(deadline) {
			t.Fatalf("postgres, process %d, outlived its parent", pid)
		}
		<-time.After(20 * time.Millisecond)
	}
}
