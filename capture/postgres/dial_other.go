//go:build !linux

package postgres

import "syscall"

// boundUnacknowledged does nothing where the kernel has no TCP_USER_TIMEOUT:
// keep-alive probes notice a dead connection, later.
func boundUnacknowledged(string, string, syscall.RawConn) error { return nil }
