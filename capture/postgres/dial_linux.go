package postgres

import (
	"errors"
	"syscall"
)

// tcpUserTimeout is TCP_USER_TIMEOUT, which package syscall does not name.
const tcpUserTimeout = 0x12

// boundUnacknowledged has the kernel give a connection up once sent bytes were
// not acknowledged for 15 s: a network that swallows packets is noticed.
func boundUnacknowledged(network, _ string, conn syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return nil
	}
	var sockErr error
	err := conn.Control(func(fd uintptr) {
		sockErr = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, 15_000)
	})
	return errors.Join(err, sockErr)
}
