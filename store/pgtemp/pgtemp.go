// Package pgtemp runs a private, temporary PostgreSQL cluster: for the demo,
// the benchmark and tests.
package pgtemp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Config is what Start needs. Its zero value is a cluster in a new folder under
// the system's temporary one.
type Config struct {
	Dir      string            // made where it is missing, removed by Close; default: a new temporary folder
	Settings map[string]string // of postgresql.conf; wal_level is logical unless given
	Bin      string            // folder of postgres and initdb; default: FindBin
	NoSync   bool              // do not wait for the disk when the cluster is made (its Settings decide on fsync)
	InMemory bool              // a new temporary folder is in memory, where a file system and room for that are there
}

// Mode is a way to stop a cluster.
type Mode int

const (
	Fast      Mode = iota // sessions are ended, a checkpoint is written
	Immediate             // as a crash: the next start recovers from the WAL
)

func (m Mode) signal() syscall.Signal {
	if m == Immediate {
		return syscall.SIGQUIT
	}
	return syscall.SIGINT
}

// Cluster is a running cluster of our own. It listens on a free port of the
// loopback address and on a Unix socket in its folder, asks for a random
// password on both, and does not outlive this process, however that ends, where
// the operating system allows it (Linux does; elsewhere the next Start in the
// same temporary folder ends what was left).
//
// Its methods are safe for concurrent use, one at a time.
type Cluster struct {
	mu       sync.Mutex
	config   Config
	bin      string
	dir      string
	port     int
	password string
	user     *credential // nil: our own
	lock     *os.File
	server   *process // nil: stopped
}

// Start makes a cluster and starts it. Nothing is left behind when it fails.
func Start(ctx context.Context, config Config) (_ *Cluster, err error) {
	c := &Cluster{config: config, bin: config.Bin, password: rand.Text()}
	c.config.Settings = maps.Clone(config.Settings)
	if c.bin == "" {
		if c.bin, err = FindBin(ctx); err != nil {
			return nil, err
		}
	}
	if c.user, err = lowerUser(); err != nil {
		return nil, err
	}
	if err := c.makeDir(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if err := c.initdb(ctx); err != nil {
		return nil, err
	}
	// Between choosing a port and listening on it somebody else may take it.
	for range 5 {
		if c.port, err = freePort(); err != nil {
			return nil, err
		}
		if err = c.start(ctx); err == nil || !errors.Is(err, errExited) {
			break
		}
	}
	return c, err
}

// Dir is the cluster's folder: "data" in it is the data directory, "log" what
// the server said.
func (c *Cluster) Dir() string { return c.dir }

// Port is the TCP port on 127.0.0.1. A restart keeps it.
func (c *Cluster) Port() int { return c.port }

// URL is the address of a database, as the superuser.
func (c *Cluster) URL(db string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword("postgres", c.password),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)),
		Path:     "/" + db,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Set changes a setting from the next start on.
func (c *Cluster) Set(name, value string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.config.Settings == nil {
		c.config.Settings = map[string]string{}
	}
	c.config.Settings[name] = value
}

// Stop stops the server and keeps its data. A server that is still there when
// ctx ends is killed.
func (c *Cluster) Stop(ctx context.Context, mode Mode) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stop(ctx, mode)
}

func (c *Cluster) stop(ctx context.Context, mode Mode) error {
	if c.server == nil {
		return nil
	}
	err := c.server.stop(ctx, mode.signal())
	c.server = nil
	return err
}

// Restart stops the server where it runs, and starts it on the same port.
func (c *Cluster) Restart(ctx context.Context, mode Mode) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.stop(ctx, mode); err != nil {
		return err
	}
	return c.start(ctx)
}

// Close stops the server at once and removes its folder.
func (c *Cluster) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := c.stop(ctx, Immediate)
	err = errors.Join(err, os.RemoveAll(c.dir))
	if c.lock != nil {
		err = errors.Join(err, c.lock.Close())
		c.lock = nil
	}
	return err
}

func (c *Cluster) data() string { return filepath.Join(c.dir, "data") }

// makeDir makes the folder, gives it to the server's user, and locks it, so that
// others see that it is in use.
func (c *Cluster) makeDir() (err error) {
	c.dir = c.config.Dir
	if c.dir == "" {
		parent := os.TempDir()
		if memory := memoryDir(); c.config.InMemory && memory != "" {
			parent = memory
		}
		sweep(parent)
		c.dir, err = os.MkdirTemp(parent, dirPrefix)
	} else {
		err = os.MkdirAll(c.dir, 0o700)
	}
	if err == nil {
		c.lock, err = lockDir(c.dir)
	}
	if err == nil && c.user != nil {
		err = os.Chown(c.dir, c.user.uid, c.user.gid)
	}
	if err != nil {
		return fmt.Errorf("make cluster folder: %w", err)
	}
	return nil
}

func (c *Cluster) initdb(ctx context.Context) error {
	pwfile := filepath.Join(c.dir, "password")
	if err := os.WriteFile(pwfile, []byte(c.password+"\n"), 0o600); err != nil {
		return fmt.Errorf("write password file: %w", err)
	}
	defer os.Remove(pwfile)
	if c.user != nil {
		if err := os.Chown(pwfile, c.user.uid, c.user.gid); err != nil {
			return fmt.Errorf("write password file: %w", err)
		}
	}
	args := []string{
		"-D", c.data(), "-U", "postgres", "-E", "UTF8", "--locale=C",
		"-A", "scram-sha-256", "--pwfile", pwfile,
	}
	if c.config.NoSync {
		args = append(args, "--no-sync")
	}
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, "initdb"), args...)
	c.prepare(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		if c.user != nil && errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("initdb: PostgreSQL does not run as root, and user id %d may not enter %s or run the programs in %s: %w", c.user.uid, c.dir, c.bin, err)
		}
		return fmt.Errorf("initdb: %w\n%s", err, tail(out))
	}
	return nil
}

// prepare gives a command the server's user and an environment without the
// PG… variables of ours.
func (c *Cluster) prepare(cmd *exec.Cmd) {
	cmd.Dir = c.dir
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "PG") && !strings.HasPrefix(kv, "LC_") && !strings.HasPrefix(kv, "LANG") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, "LC_ALL=C")
	cmd.SysProcAttr = procAttr(c.user)
}

// maxSocketPath is what every Unix allows for the path of a socket.
const maxSocketPath = 103

func (c *Cluster) start(ctx context.Context) error {
	settings := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"port":                    strconv.Itoa(c.port),
		"unix_socket_directories": c.dir,
		"wal_level":               "logical",
	}
	if len(c.dir)+len("/.s.PGSQL.65535") > maxSocketPath {
		settings["unix_socket_directories"] = ""
	}
	maps.Copy(settings, c.config.Settings)
	args := []string{"-D", c.data()}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	logPath := filepath.Join(c.dir, "log")
	logFile, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open server log: %w", err)
	}
	defer logFile.Close()
	cmd := exec.Command(filepath.Join(c.bin, "postgres"), args...)
	c.prepare(cmd)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	server, err := startProcess(cmd)
	if err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	if err := c.awaitReady(ctx, server); err != nil {
		said, _ := os.ReadFile(logPath)
		return fmt.Errorf("start postgres: %w\n%s", err, tail(said))
	}
	c.server = server
	return nil
}

// errExited: the server ended before it was ready.
var errExited = errors.New("server exited")

// awaitReady waits until the server says in its pid file that it takes
// connections.
func (c *Cluster) awaitReady(ctx context.Context, server *process) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		// A file left by a crash names another process.
		said, _ := os.ReadFile(filepath.Join(c.data(), "postmaster.pid"))
		lines := strings.Split(string(said), "\n")
		if len(lines) >= 8 && strings.TrimSpace(lines[7]) == "ready" && strings.TrimSpace(lines[0]) == strconv.Itoa(server.pid) {
			return nil
		}
		select {
		case <-server.done:
			return errExited
		case <-ctx.Done():
			stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			return errors.Join(ctx.Err(), server.stop(stopCtx, Immediate.signal()))
		case <-tick.C:
		}
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// tail is the end of what a program said.
func tail(out []byte) string {
	const most = 2000
	return strings.TrimSpace(string(out[max(0, len(out)-most):]))
}
