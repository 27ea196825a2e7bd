package pgtemp

import "syscall"

// dieWithParent makes the kernel end the server as in an immediate stop when
// the thread that started it ends.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGQUIT }
