package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/dispatch/hooktest"
	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/store/pgtemp"
	"github.com/rowcall/rowcall/store/storetest"
	"github.com/rowcall/rowcall/subscriptions"
)

// patience bounds every wait for something that must happen.
const patience = 30 * time.Second

// newConfig is a configuration for a test, on a database of its own. Its source
// has a name of its own: slots belong to the whole cluster.
func newConfig(t *testing.T, database string) config {
	t.Helper()
	return config{
		databaseURL: database, sourceURL: database, sourceName: "t" + strings.ToLower(rand.Text()[:12]), sourceTables: []string{"public.*"},
		databaseWait: patience, instance: t.Name(), apiKey: subscriptions.NewSecret(api.NewKey()), cipher: storetest.Cipher(t),
		listen: "127.0.0.1:0", egressAllow: "private", attempts: "all", logger: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel),
	}
}

// start serves in process until the test ends and returns the API's address.
func start(t *testing.T, c config) (addr string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan string, 1), make(chan error, 1)
	go func() { done <- serve(ctx, c, func(addr string) { ready <- addr }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	select {
	case addr = <-ready:
		return addr
	case err := <-done:
		done <- nil
		t.Fatalf("serve ended at its start: %v", err)
		return ""
	}
}

// client is the environment of the commands that call an instance.
func clientEnv(addr string, c config) []string {
	return []string{"ROWCALL_URL=http://" + addr, "ROWCALL_API_KEY=" + c.apiKey.Reveal()}
}

// execute runs SQL on a database.
func execSQL(t *testing.T, database, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until a run of the program answers as wanted.
func eventually(t *testing.T, env []string, want string, args ...string) result {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		got := call(t, env, args...)
		if got.code == exitOK && strings.Contains(got.stdout, want) {
			return got
		}
		if time.Now().After(deadline) {
			t.Fatalf("rowcall %s: want %q in\n%s%s", strings.Join(args, " "), want, got.stdout, got.stderr)
		}
		<-time.After(50 * time.Millisecond)
	}
}

func TestACommitReachesItsWebhookAndEveryCommandSeesIt(t *testing.T) {
	t.Parallel()
	database := storetest.EmptyURL(t)
	execSQL(t, database, "CREATE TABLE orders (id int PRIMARY KEY, note text)")
	c := newConfig(t, database)
	receiver := hooktest.Start(t, hooktest.Config{})
	env := clientEnv(start(t, c), c)
	eventually(t, env, "streaming", "sources")

	created := call(t, env, "subscriptions", "create", "--name=all", "--events=public.orders.*", "--endpoint="+receiver.URL(),
		"--header=X-Env=test", "--max-in-flight=7", "-o", "json")
	if created.code != exitOK || !strings.Contains(created.stdout, `"secret": "whsec_`) || !strings.Contains(created.stdout, `"X-Env": "test"`) {
		t.Fatalf("create: %+v", created)
	}
	execSQL(t, database, "INSERT INTO orders VALUES (1, 'a'), (2, 'b')")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := receiver.AwaitSucceeded(ctx, 2); err != nil {
		t.Fatal(err)
	}
	if got := receiver.Deliveries()[0].Header.Get("X-Env"); got != "test" {
		t.Errorf("header X-Env is %q", got)
	}

	list := call(t, env, "subscriptions", "list")
	if !strings.HasPrefix(list.stdout, "ID ") || !strings.Contains(list.stdout, "all ") || !strings.Contains(list.stdout, receiver.URL()) {
		t.Errorf("list: %+v", list)
	}
	get := call(t, env, "subs", "get", "all")
	if !strings.Contains(get.stdout, "7 at most") || strings.Contains(get.stdout, "whsec_") {
		t.Errorf("get: %+v", get)
	}
	update := call(t, env, "subscriptions", "update", "all", "--rename=every", "--description=x", "--if-version=1")
	if update.code != exitOK || !strings.Contains(update.stdout, "every") {
		t.Errorf("update: %+v", update)
	}
	if stale := call(t, env, "subscriptions", "update", "every", "--description=y", "--if-version=1"); stale.code != exitFailed {
		t.Errorf("an update of an old version: %+v", stale)
	}
	if none := call(t, env, "subscriptions", "update", "every"); none.code != exitUsage {
		t.Errorf("an update of nothing: %+v", none)
	}
	for endpoint, want := range map[string]string{"": "body.events", "http://169.254.169.254/": "body.endpoint.url"} {
		args := []string{"subscriptions", "create", "--name=bad", "--endpoint=" + endpoint}
		if endpoint != "" {
			args = append(args, "--events=**")
		}
		if got := call(t, env, args...); got.code != exitUsage || !strings.Contains(got.stderr, want) {
			t.Errorf("a bad subscription: want a fault of %s: %+v", want, got)
		}
	}
	if got := call(t, env, "subscriptions", "pause", "every"); !strings.Contains(got.stdout, "paused") {
		t.Errorf("pause: %+v", got)
	}
	if got := call(t, env, "subscriptions", "resume", "every"); !strings.Contains(got.stdout, "active") {
		t.Errorf("resume: %+v", got)
	}

	events := call(t, env, "events", "list", "--type=public.orders.inserted", "--limit=1")
	if !strings.Contains(events.stdout, "id=2") || strings.Contains(events.stdout, "id=1") {
		t.Errorf("events list --limit=1: %+v", events)
	}
	id := receiver.Deliveries()[0].ID
	if got := call(t, env, "events", "get", id, "-o", "json"); !strings.Contains(got.stdout, `"id": "`+id+`"`) || !strings.Contains(got.stdout, `"note":`) {
		t.Errorf("events get: %+v", got)
	}
	if got := call(t, env, "sources", c.sourceName); !strings.Contains(got.stdout, "public.orders") || !strings.Contains(got.stdout, "captured") {
		t.Errorf("sources <name>: %+v", got)
	}

	receiver.Script(func(hooktest.Delivery) hooktest.Reply { return hooktest.Reply{Status: 422} })
	execSQL(t, database, "INSERT INTO orders VALUES (3, 'c'), (4, 'd')")
	eventually(t, env, "public.orders/id=4", "deliveries", "list", "--state=retrying", "--since=1h")
	if got := call(t, env, "deliveries", "list", "--subscription=every"); got.code != exitOK || strings.Count(got.stdout, "  every  ") != 2 || strings.Contains(got.stdout, "sub_") {
		t.Errorf("deliveries list by name: %+v", got)
	}
	if got := call(t, env, "dead-ranges", "list", "--subscription=every"); got.code != exitOK {
		t.Errorf("dead-ranges list by name: %+v", got)
	}
	if got := call(t, env, "jobs", "get", "job_none"); got.code != exitFailed || !strings.Contains(got.stderr, `there is no job "job_none", or no longer (rowcall jobs list shows those there are)`) {
		t.Errorf("jobs get of none: %+v", got)
	}
	if got := call(t, env, "subs", "health", "every"); got.code != exitOK || !strings.Contains(got.stdout, "  2 events (2 retrying)\n") {
		t.Errorf("health: %+v", got)
	}
	if got := call(t, env, "deliveries", "list", "--subscription=nobody"); got.code != exitFailed || !strings.Contains(got.stderr, `none called "nobody"`) {
		t.Errorf("deliveries list of nobody: %+v", got)
	}
	ids := deliveryIDs(t, env)
	if got := call(t, env, "deliveries", "get", ids["public.orders/id=3"]); !strings.Contains(got.stdout, "rejected 422") {
		t.Errorf("deliveries get: %+v", got)
	}
	if got := call(t, env, "deliveries", "discard", ids["public.orders/id=4"]); got.code != exitOK {
		t.Errorf("discard: %+v", got)
	}
	// Asked for while it is refused still: it cannot be delivered by itself before.
	if got := call(t, env, "deliveries", "retry", ids["public.orders/id=3"]); got.code != exitOK {
		t.Errorf("retry: %+v", got)
	}
	receiver.Script(nil)
	eventually(t, env, "[]", "deliveries", "list", "-o", "json")
	if got := receiver.Counts().Succeeded; got != 3 {
		t.Errorf("%d deliveries succeeded, want those of rows 1, 2 and 3", got)
	}

	if got := call(t, env, "subscriptions", "delete", "every"); got.code != exitUsage || !strings.HasPrefix(got.stderr, "every (sub_") || !strings.Contains(got.stderr, "Go on? [y/N]") {
		t.Errorf("delete where nobody agrees: %+v", got)
	}
	if got := call(t, env, "subscriptions", "delete", "every", "--yes"); got.code != exitOK {
		t.Errorf("delete: %+v", got)
	}
	if got := call(t, env, "subscriptions", "get", "every"); got.code != exitFailed || !strings.Contains(got.stderr, `none called "every"`) {
		t.Errorf("get of what is deleted: %+v", got)
	}
	if got := call(t, []string{env[0], "ROWCALL_API_KEY=" + api.NewKey()}, "sources"); got.code != exitFailed || !strings.Contains(got.stderr, "ROWCALL_API_KEY") {
		t.Errorf("with a wrong key: %+v", got)
	}
	if got := call(t, env[:1], "sources"); got.code != exitUsage || !strings.Contains(got.stderr, "ROWCALL_API_KEY is not set") {
		t.Errorf("without a key: %+v", got)
	}
}

// deliveryIDs maps keys to the ids of deliveries, from the table for people.
func deliveryIDs(t *testing.T, env []string) map[string]string {
	t.Helper()
	ids := make(map[string]string)
	for line := range strings.Lines(call(t, env, "deliveries", "list").stdout) {
		if cells := strings.Fields(line); len(cells) > 4 {
			ids[cells[4]] = cells[0]
		}
	}
	return ids
}

func TestASubscriptionIsMadeFromADocument(t *testing.T) {
	t.Parallel()
	c := newConfig(t, storetest.EmptyURL(t))
	env := clientEnv(start(t, c), c)
	document := file(t, "name: from-file\nevents: ['**']\nendpoint: {url: 'http://127.0.0.1:9/x', timeout: 3s}\nretry:\n  max_attempts: 5\n")
	got := call(t, env, "subscriptions", "create", "-f", document, "--endpoint=http://127.0.0.1:10/y", "--start=earliest", "-o", "json")
	for _, want := range []string{`"name": "from-file"`, `"url": "http://127.0.0.1:10/y"`, `"timeout": "3s"`, `"max_attempts": 5`} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("no %s in %+v", want, got)
		}
	}
	pipe := rowcall(t, env, "subscriptions", "update", "from-file", "-f", "-", "-o", "json")
	pipe.Stdin = strings.NewReader(`{"labels":{"team":"growth"}}`)
	out, err := pipe.Output()
	if err != nil || !bytes.Contains(out, []byte(`"team": "growth"`)) || !bytes.Contains(out, []byte(`"timeout": "3s"`)) {
		t.Errorf("merge patch by pipe: %v\n%s", err, out)
	}
	if got := call(t, env, "subscriptions", "create", "-f", file(t, "name: x\nnonsense: 1\n")); got.code != exitUsage || !strings.Contains(got.stderr, "nonsense") {
		t.Errorf("an unknown member: %+v", got)
	}
}

func TestHealthProbesTheRunningInstance(t *testing.T) {
	t.Parallel()
	c := newConfig(t, storetest.EmptyURL(t))
	addr := start(t, c)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, listen := range []string{addr, "0.0.0.0:" + port, ":" + port} {
		if got := call(t, []string{"ROWCALL_LISTEN=" + listen}, "health"); got.code != exitOK {
			t.Errorf("%s: %+v", listen, got)
		}
	}
	eventually(t, []string{"ROWCALL_LISTEN=" + addr}, "", "health", "--ready")
}

func TestHTTPSIsServedAndProbed(t *testing.T) {
	t.Parallel()
	c := newConfig(t, storetest.EmptyURL(t))
	flags := listenFlags{Listen: "127.0.0.1:0"}
	flags.TLSCertFile, flags.TLSKeyFile = certificate(t)
	s := &settings{}
	if c.tls = flags.parseTLS(s); s.err() != nil {
		t.Fatal(s.err())
	}
	addr := start(t, c)
	if got := call(t, []string{"ROWCALL_LISTEN=" + addr, "ROWCALL_TLS_CERT_FILE=" + flags.TLSCertFile}, "health"); got.code != exitOK {
		t.Errorf("over https: %+v", got)
	}
	if got := call(t, []string{"ROWCALL_LISTEN=" + addr}, "health"); got.code != exitFailed {
		t.Errorf("over http: %+v", got)
	}
}

// certificate writes a self-signed certificate and its key.
func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"rowcall.test"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return file(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))),
		file(t, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
}

func TestASourceThatIsDownDoesNotStopServe(t *testing.T) {
	t.Parallel()
	c := newConfig(t, storetest.EmptyURL(t))
	c.sourceURL = "postgres://nobody@127.0.0.1:1/nothing"
	addr := start(t, c)
	eventually(t, clientEnv(addr, c), "waiting", "sources")
	if got := call(t, []string{"ROWCALL_LISTEN=" + addr}, "health"); got.code != exitOK {
		t.Errorf("healthz: %+v", got)
	}
}

// serveEnv is the environment in which the program serves on a free port.
func serveEnv(t *testing.T, database string) []string {
	t.Helper()
	return []string{
		"ROWCALL_DATABASE_URL=" + database, "ROWCALL_SECRET_KEY=" + subscriptions.NewMasterKey(), "ROWCALL_API_KEY=" + api.NewKey(),
		"ROWCALL_LISTEN=127.0.0.1:0", "ROWCALL_EGRESS_ALLOW=private", "ROWCALL_LOG_FORMAT=json", "ROWCALL_INSTANCE=one",
		"ROWCALL_SOURCE_NAME=t" + strings.ToLower(rand.Text()[:12]),
	}
}

// valueOf finds a variable in an environment.
func valueOf(env []string, name string) string {
	value, _ := lookupIn(env)(name)
	return value
}

// served is a serving process and the lines of its log.
type served struct {
	addr string
	log  chan string // closed at its end
	term func(os.Signal)
	wait func() int
}

// serveProcess serves in a process of its own until it is told to stop.
func serveProcess(t *testing.T, env []string) *served {
	t.Helper()
	c := rowcall(t, env, "serve")
	pipe, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	p := &served{log: make(chan string, 1000)}
	p.term = func(s os.Signal) {
		if err := c.Process.Signal(s); err != nil {
			t.Errorf("signal: %v", err)
		}
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(p.log)
		for lines := bufio.NewScanner(pipe); lines.Scan(); {
			p.log <- lines.Text()
		}
	}()
	ended := false
	p.wait = func() int {
		ended = true
		<-read
		_ = c.Wait()
		return c.ProcessState.ExitCode()
	}
	t.Cleanup(func() {
		if !ended {
			_ = c.Process.Kill()
			p.wait()
		}
	})
	line := p.await(t, `"message":"serving"`)
	_, rest, _ := strings.Cut(line, `"listen":"`)
	p.addr, _, _ = strings.Cut(rest, `"`)
	return p
}

// await returns the first line of the log that holds a text.
func (p *served) await(t *testing.T, text string) string {
	t.Helper()
	timeout := time.After(patience)
	var seen []string
	for {
		select {
		case line, open := <-p.log:
			seen = append(seen, line)
			if strings.Contains(line, text) {
				return line
			}
			if open {
				continue
			}
		case <-timeout:
		}
		t.Fatalf("no %s in the log:\n%s", text, strings.Join(seen, "\n"))
	}
}

func TestSIGTERMDrainsAndASecondSignalExitsAtOnce(t *testing.T) {
	t.Parallel()
	database := storetest.EmptyURL(t)
	execSQL(t, database, "CREATE TABLE orders (id int PRIMARY KEY)")
	arrived, release := make(chan struct{}, 10), make(chan struct{})
	receiver := hooktest.Start(t, hooktest.Config{Reply: func(hooktest.Delivery) hooktest.Reply {
		arrived <- struct{}{}
		select {
		case <-release:
		case <-t.Context().Done():
		}
		return hooktest.Reply{}
	}})
	env := serveEnv(t, database)
	p := serveProcess(t, env)
	calls := []string{"ROWCALL_URL=http://" + p.addr, env[2]}
	eventually(t, calls, "streaming", "sources")
	if got := call(t, calls, "subscriptions", "create", "--name=a", "--events=**", "--endpoint="+receiver.URL()); got.code != exitOK {
		t.Fatalf("create: %+v", got)
	}
	execSQL(t, database, "INSERT INTO orders VALUES (1)")
	await(t, arrived)
	p.term(syscall.SIGTERM)
	p.await(t, `"message":"draining"`)
	release <- struct{}{} // only now is the request in flight answered
	p.await(t, `"message":"stopped"`)
	if code := p.wait(); code != exitOK {
		t.Errorf("exit code %d", code)
	}

	// Nobody owns the source any more: another instance may have it at once.
	cipher, err := subscriptions.NewCipher(valueOf(env, "ROWCALL_SECRET_KEY"))
	if err != nil {
		t.Fatal(err)
	}
	other := storetest.OpenIdle(t, store.Config{URL: database, Instance: "two", Cipher: cipher})
	stop := storetest.Run(t, other)
	if _, err := other.Lease(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := other.ClaimSource(t.Context(), valueOf(env, "ROWCALL_SOURCE_NAME")); err != nil {
		t.Errorf("claim the source after the drain: %v", err)
	}
	stop()
	if err := other.ReleaseLease(t.Context()); err != nil {
		t.Fatal(err)
	}

	// The next life takes over at once, and what was settled is not sent again.
	p = serveProcess(t, env)
	execSQL(t, database, "INSERT INTO orders VALUES (2)")
	await(t, arrived)
	if ds := receiver.Deliveries(); len(ds) != 2 || ds[1].Subject != "id=2" {
		t.Errorf("want rows 1 and 2, once each: %d deliveries, the last of %s", len(ds), ds[len(ds)-1].Subject)
	}
	p.term(os.Interrupt)
	p.await(t, `"message":"draining"`)
	begun := time.Now()
	p.term(os.Interrupt)
	if code := p.wait(); code != exitFailed || time.Since(begun) > 5*time.Second {
		t.Errorf("exit code %d after %v, want %d at once", code, time.Since(begun), exitFailed)
	}
	close(release)
}

func await(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatal("nothing arrived")
	}
}

func TestAStoreThatCannotServeEndsTheStartWithItsRemedy(t *testing.T) {
	t.Parallel()
	database := storetest.EmptyURL(t)
	parsed, err := pgx.ParseConfig(database)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("%s:%d", parsed.Host, parsed.Port)
	env := serveEnv(t, database)
	p := serveProcess(t, env)
	p.term(syscall.SIGTERM)
	if code := p.wait(); code != exitOK {
		t.Fatalf("exit code %d", code)
	}
	with := func(env []string, change ...string) []string { return append(slices.Clone(env), change...) }
	for name, test := range map[string]struct {
		env  []string
		code int
		want string
	}{
		"a wrong password": {
			with(env, "ROWCALL_DATABASE_URL=postgres://postgres:wrong@"+address+"/"+parsed.Database+"?sslmode=disable"), exitFailed, "correct user and password",
		},
		"a database that is not there": {
			with(env, "ROWCALL_DATABASE_URL="+strings.Replace(database, parsed.Database, parsed.Database+"_none", 1)), exitFailed, "CREATE DATABASE",
		},
		"a server without TLS is not waited for": {
			with(env, "ROWCALL_DATABASE_URL="+strings.Replace(database, "sslmode=disable", "sslmode=verify-full", 1)), exitFailed, "write sslmode=disable into ROWCALL_DATABASE_URL",
		},
		"another secret key": {with(env, "ROWCALL_SECRET_KEY="+subscriptions.NewMasterKey()), exitUsage, "set the key of earlier starts"},
		"an address that is taken": {
			with(env, "ROWCALL_LISTEN="+listener(t)), exitFailed, "address already in use",
		},
		"no API key at the first start": {
			with(serveEnv(t, storetest.EmptyURL(t)), "ROWCALL_API_KEY="), exitUsage, "ROWCALL_API_KEY is not set, and this is the first start",
		},
		"a server that is not there for the time it is waited for": {
			with(env, "ROWCALL_DATABASE_URL=postgres://127.0.0.1:1/x", "ROWCALL_DATABASE_WAIT=300ms"), exitFailed, "gave up after 300ms",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begun := time.Now()
			got := call(t, test.env, "serve")
			if got.code != test.code || !strings.Contains(got.stderr, test.want) {
				t.Errorf("exit code %d, want %d with %q in:\n%s", got.code, test.code, test.want, got.stderr)
			}
			if strings.Contains(got.stderr, "wrong@") || time.Since(begun) > patience/2 {
				t.Errorf("after %v:\n%s", time.Since(begun), got.stderr)
			}
		})
	}
	t.Run("a later start needs no API key", func(t *testing.T) {
		t.Parallel()
		p := serveProcess(t, with(env, "ROWCALL_API_KEY="))
		if got := call(t, []string{"ROWCALL_URL=http://" + p.addr, env[2]}, "sources"); got.code != exitOK {
			t.Errorf("the key of the first start: %+v", got)
		}
		p.term(syscall.SIGTERM)
		if code := p.wait(); code != exitOK {
			t.Errorf("exit code %d", code)
		}
	})
}

// listener is an address that is taken while the test runs.
func listener(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func TestAStoreThatComesUpLaterIsWaitedFor(t *testing.T) {
	t.Parallel()
	cluster := storetest.Cluster(t, nil)
	if err := cluster.Stop(t.Context(), pgtemp.Fast); err != nil {
		t.Fatal(err)
	}
	log, waiting := io.Pipe()
	c := newConfig(t, cluster.URL("postgres"))
	c.logger = zerolog.New(waiting)
	done := make(chan error, 1)
	go func() {
		_, err := migrateStore(t.Context(), c)
		waiting.Close()
		done <- err
	}()
	line, err := bufio.NewReader(log).ReadString('\n')
	if err != nil || !strings.Contains(line, "waiting for it") {
		t.Fatalf("%v: %s", err, line)
	}
	go func() { _, _ = io.Copy(io.Discard, log) }()
	if err := cluster.Restart(t.Context(), pgtemp.Fast); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestNoDeliveryMayReachOurselvesOrTheDatabases(t *testing.T) {
	t.Parallel()
	got := denied(t.Context(), zerolog.Nop(), &net.TCPAddr{IP: net.IPv6unspecified, Port: 8080},
		"host=/var/run/postgresql port=5433 dbname=x", "postgres://10.0.0.1:5434,[2001:db8::1]:5435/x?sslmode=disable", "postgres://10.0.0.1:5434/y")
	for _, want := range []string{"[::]:8080", "[::]:5433", "10.0.0.1:5434", "[2001:db8::1]:5435"} {
		if !slices.Contains(got, netip.MustParseAddrPort(want)) {
			t.Errorf("%s is not denied: %v", want, got)
		}
	}
	if len(got) != 4 {
		t.Errorf("want four addresses, each once: %v", got)
	}
}

func TestCheckNamesFaultsAndRemediesAndChangesNothing(t *testing.T) {
	t.Parallel()
	database := storetest.EmptyURL(t)
	execSQL(t, database, "CREATE TABLE orders (id int PRIMARY KEY); CREATE TABLE keyless (a int)")
	got := call(t, fit(database), "check")
	if got.code != exitOK || !strings.Contains(got.stdout, "schema rowcall may be created") || !strings.Contains(got.stdout, "0 faults") {
		t.Errorf("a fit database: %+v", got)
	}
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	var traces int
	if err := conn.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM pg_namespace WHERE nspname = 'rowcall') + (SELECT count(*) FROM pg_publication)
		+ (SELECT count(*) FROM pg_replication_slots WHERE database = current_database())`).Scan(&traces); err != nil || traces != 0 {
		t.Errorf("check left %d traces (%v)", traces, err)
	}

	parsed := conn.Config()
	role := "limited_" + strings.ToLower(rand.Text()[:8])
	execSQL(t, database, "CREATE ROLE "+role+" LOGIN PASSWORD 'pw'")
	t.Cleanup(func() {
		conn, err := pgx.Connect(context.Background(), database)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close(context.Background())
		if _, err := conn.Exec(context.Background(), "DROP ROLE "+role); err != nil {
			t.Error(err)
		}
	})
	limited := fmt.Sprintf("ROWCALL_DATABASE_URL=postgres://%s:pw@%s:%d/%s?sslmode=disable", role, parsed.Host, parsed.Port, parsed.Database)
	got = call(t, []string{limited}, "check", "-o", "json")
	if got.code != exitFailed || !strings.Contains(got.stdout, `GRANT CREATE ON DATABASE \"`+parsed.Database+`\" TO \"`+role+`\";`) || got.stderr != "" {
		t.Errorf("a role that may not create: %+v", got)
	}
	if !strings.Contains(got.stdout, `"of": "source"`) {
		t.Errorf("nothing is said of the source: %+v", got)
	}
	got = call(t, fit("postgres://127.0.0.1:1/x"), "check")
	if got.code != exitFailed || !strings.Contains(got.stdout, "✗ store") || !strings.Contains(got.stdout, "→ start it") {
		t.Errorf("a server that is not there: %+v", got)
	}
	if strings.ContainsRune(got.stdout, '\t') || strings.Count(got.stdout, "connection refused") != 2 {
		t.Errorf("store and source do not say in one line each why they are not reached: %+v", got)
	}
	got = call(t, []string{"ROWCALL_DATABASE_URL=" + database, "ROWCALL_SOURCE_TABLES=public..x"}, "check")
	if got.code != exitUsage || !strings.Contains(got.stderr, `want an identifier at ".x"`) {
		t.Errorf("tables that cannot be read: %+v", got)
	}
}

func TestCheckWarnsOfARoleThatWouldMixItsTablesWithOurs(t *testing.T) {
	t.Parallel()
	database := storetest.EmptyURL(t)
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	const warning = "leads to schema rowcall"
	for path, mixed := range map[string]bool{`"$user",public`: false, `public,rowcall`: true, `"rowcall"`: true, "rowcalls": false} {
		q := u.Query()
		q.Set("search_path", path)
		u.RawQuery = q.Encode()
		got := call(t, []string{"ROWCALL_DATABASE_URL=" + u.String(), "ROWCALL_SOURCE_URL=postgres://127.0.0.1:1/x"}, "check")
		if strings.Contains(got.stdout, warning) != mixed || !strings.Contains(got.stdout, "✓ store") {
			t.Errorf("search_path %s: want the warning %v: %+v", path, mixed, got)
		}
	}
}

func TestDemoEndsAfterItsDeliveriesAndLeavesNothing(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "demo") //nolint:usetesting // a server that does not run as root must reach it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	env := []string{"TMPDIR=" + dir, "ROWCALL_PG_BIN=" + os.Getenv("ROWCALL_PG_BIN")}
	got := call(t, env, "demo", "--deliveries=5", "--rate=20", "--timeout=50s")
	if got.code != exitOK || strings.Count(got.stdout, "✓ verified") < 5 || got.stderr != "" {
		t.Fatalf("exit code %d\n%s%s", got.code, got.stdout, got.stderr)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
	got = call(t, env, "demo", "--deliveries=100000", "--timeout=1s")
	if got.code != exitFailed || !strings.Contains(got.stderr, "100000 deliveries did not come within 1s") {
		t.Errorf("a demo that runs out of time: exit code %d\n%s", got.code, got.stderr)
	}
}
