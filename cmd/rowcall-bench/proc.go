package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a child that the benchmark started.
type process struct {
	cmd  *exec.Cmd
	log  *os.File
	done chan error
}

// startProcess runs a program with its output in a file; firstLine, if asked
// for, is the first line of its standard output.
func startProcess(ctx context.Context, dir, name string, wantLine bool, env []string, path string, args ...string) (*process, string, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	log, err := os.OpenFile(filepath.Join(dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, "", err
	}
	cmd.Stderr = log
	var out io.ReadCloser
	if wantLine {
		if out, err = cmd.StdoutPipe(); err != nil {
			return nil, "", errors.Join(err, log.Close())
		}
	} else {
		cmd.Stdout = log
	}
	if err := cmd.Start(); err != nil {
		return nil, "", errors.Join(fmt.Errorf("start %s: %w", name, err), log.Close())
	}
	line := ""
	if wantLine {
		line, err = bufio.NewReader(out).ReadString('\n')
		if err != nil {
			return nil, "", fmt.Errorf("read the first line of %s: %w", name, errors.Join(err, cmd.Wait()))
		}
	}
	p := &process{cmd: cmd, log: log, done: make(chan error, 1)}
	go func() { p.done <- cmd.Wait() }()
	return p, strings.TrimSpace(line), nil
}

// stop asks the process to end and waits for it.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	err := <-p.done
	return errors.Join(err, p.log.Close())
}

// used is the CPU time of a process and its descendants that it has reaped, in
// seconds; zero where /proc is not to be had.
func used(pid int) float64 {
	fields := stat(pid)
	if len(fields) < 17 {
		return 0
	}
	var ticks float64
	for _, i := range []int{13, 14, 15, 16} { // utime stime cutime cstime
		n, _ := strconv.ParseFloat(fields[i], 64)
		ticks += n
	}
	return ticks / 100 // USER_HZ is 100 wherever Go runs on Linux
}

// usedTree is used, of a process and all its living children too.
func usedTree(pid int) float64 {
	sum := used(pid)
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	for _, e := range entries {
		if child, err := strconv.Atoi(e.Name()); err == nil {
			if fields := stat(child); len(fields) > 3 && fields[3] == strconv.Itoa(pid) {
				sum += used(child)
			}
		}
	}
	return sum
}

// stat is /proc/pid/stat, numbered as proc(5) does less one.
func stat(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	end := strings.LastIndexByte(string(text), ')') // the name may hold anything
	if end < 0 {
		return nil
	}
	return append([]string{"", ""}, strings.Fields(string(text[end+1:]))...)
}

// peakRSS is the most memory that a process has held, in MiB.
func peakRSS(pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb / 1024
		}
	}
	return 0
}
