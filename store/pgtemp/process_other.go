//go:build !unix

package pgtemp

import (
	"os"
	"path/filepath"
	"syscall"
)

// Elsewhere there are neither stopped processes, users to change to, nor
// locks of this kind: the server runs as ourselves and Close ends it.

const (
	sigcont   = syscall.Signal(0)
	dirPrefix = "rowcall-pg-"
)

type credential struct{ uid, gid int }

func lowerUser() (*credential, error) { return nil, nil }

func procAttr(*credential) *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

func lockDir(dir string) (*os.File, error) { return os.Create(filepath.Join(dir, "lock")) }

func sweep(string) {}
