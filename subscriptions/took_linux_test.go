package subscriptions

import (
	"runtime"
	"syscall"
	"time"
)

// Took is the processor time that do takes, on its own goroutine: a machine that is
// busy with other things as well does not add to it.
func Took(do func()) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := spent()
	do()
	return spent() - before
}

// spent is the processor time of this thread since it began.
func spent() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_THREAD, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
