package pgtemp

import (
	"context"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// process is a child that one goroutine started and waits for.
type process struct {
	cmd  *exec.Cmd
	pid  int
	done chan struct{} // closed when the child has ended
}

// startProcess starts cmd in a goroutine that keeps its operating system thread
// until the child has ended: on Linux the signal that a parent's death sends is
// sent when the *thread* that started the child ends.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how a server that was told to end ends says nothing
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	p.pid = cmd.Process.Pid
	return p, nil
}

// stop signals the child and waits for its end; it is killed when ctx ends
// before that.
func (p *process) stop(ctx context.Context, sig syscall.Signal) error {
	// A server that is itself stopped would not see the signal.
	_ = p.cmd.Process.Signal(sigcont)
	_ = p.cmd.Process.Signal(sig)
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	// SIGQUIT first: a killed postmaster leaves its children to find out.
	_ = p.cmd.Process.Signal(syscall.SIGQUIT)
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	return ctx.Err()
}
