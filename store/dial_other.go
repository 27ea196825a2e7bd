//go:build !linux

package store

import "syscall"

// setUserTimeout does nothing: deadlines and keepalives must do.
func setUserTimeout(string, string, syscall.RawConn) error { return nil }
