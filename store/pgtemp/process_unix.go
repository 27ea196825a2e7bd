//go:build unix

package pgtemp

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const sigcont = syscall.SIGCONT

// credential is the user that the server runs as.
type credential struct{ uid, gid int }

// lowerUser is whom the server runs as when we are root, which PostgreSQL
// refuses: postgres where there is such a user, else nobody. nil: as ourselves.
func lowerUser() (*credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err1 == nil && err2 == nil {
			return &credential{uid, gid}, nil
		}
	}
	return nil, fmt.Errorf("find a user to run postgres as: PostgreSQL does not run as root, and there is neither a user postgres nor nobody; run this as an ordinary user")
}

// procAttr makes the server a process group of its own: Ctrl-C in a terminal is
// for us, and we stop the server when we are done with it.
func procAttr(as *credential) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if as != nil {
		attr.Credential = &syscall.Credential{Uid: uint32(as.uid), Gid: uint32(as.gid)}
	}
	dieWithParent(attr)
	return attr
}

// dirPrefix begins the names of folders that nobody chose.
const dirPrefix = "rowcall-pg-"

// lockName is the file whose lock says that a folder is in use.
const lockName = "lock"

func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("lock %s, another cluster lives there: %w", dir, errors.Join(err, f.Close()))
	}
	return f, nil
}

// sweep removes the folders, and ends the servers, of processes that were
// killed. What it may not touch it leaves.
func sweep(parent string) {
	dirs, _ := filepath.Glob(filepath.Join(parent, dirPrefix+"*"))
	for _, dir := range dirs {
		// A folder is locked a moment after it is made.
		if info, err := os.Stat(dir); err != nil || time.Since(info.ModTime()) < time.Minute {
			continue
		}
		lock, err := lockDir(dir)
		if err != nil {
			continue
		}
		endOrphan(dir)
		_ = os.RemoveAll(dir)
		_ = lock.Close()
	}
}

// endOrphan ends the server of a folder. Its pid may by now be another's, so a
// server must answer on the folder's own socket first.
func endOrphan(dir string) {
	said, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	if err != nil {
		return
	}
	lines := strings.Split(string(said), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil || pid <= 1 || len(lines) < 4 {
		return
	}
	conn, err := net.DialTimeout("unix", filepath.Join(dir, ".s.PGSQL."+strings.TrimSpace(lines[3])), time.Second)
	if err != nil {
		return
	}
	_ = conn.Close()
	_ = syscall.Kill(pid, syscall.SIGQUIT)
}
