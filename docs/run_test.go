package docs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/api/client"
	"github.com/rowcall/rowcall/dispatch/hooktest"
	"github.com/rowcall/rowcall/store/storetest"
)

// What a page takes for granted, and what stands for it in its own world.
const (
	shownDatabase = "postgres://app:secret@127.0.0.1:5432/app"
	shownListen   = "127.0.0.1:8080"
)

var (
	shownPort   = regexp.MustCompile(`\b900[0-9]\b`)
	shownSource = regexp.MustCompile(`\bmain\b`)
)

// world is a page's own database, addresses, shell and, once started, rowcall.
type world struct {
	t        *testing.T
	database string
	listen   string
	ports    map[string]string
	shell    *shell
	key      string
	api      *client.Client
	outputs  map[string]string // of what runs in the background, by name
	received *hooktest.Receiver
	seen     map[string]bool // of received: events that a block has shown
	source   string
}

// sourceNumber makes names of sources: their slots share the server.
var sourceNumber atomic.Int64

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, database: storetest.EmptyURL(t), listen: freeAddress(t), ports: map[string]string{}, outputs: map[string]string{}, seen: map[string]bool{}}
	w.source = fmt.Sprintf("page_%d_%d", os.Getpid(), sourceNumber.Add(1))
	w.shell = newShell(t, []string{"ROWCALL_SOURCE_NAME=" + w.source, "ROWCALL_LISTEN=" + w.listen, "ROWCALL_URL=http://" + w.listen})
	t.Cleanup(func() {
		for name, path := range w.outputs {
			if content, err := os.ReadFile(path); err == nil && t.Failed() {
				t.Logf("the end of what %s said:\n%s", name, content[max(0, len(content)-3000):])
			}
		}
	})
	return w
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// shown is own for what a page shows, in which the source has its default name.
func (w *world) shown(text string) string {
	return shownSource.ReplaceAllString(w.own(text), w.source)
}

// own puts the world's addresses in the place of those that pages show.
func (w *world) own(text string) string {
	text = strings.ReplaceAll(text, shownDatabase, w.database)
	text = strings.ReplaceAll(text, shownListen, w.listen)
	return shownPort.ReplaceAllStringFunc(text, w.port)
}

func (w *world) port(shown string) string {
	if w.ports[shown] == "" {
		_, port, err := net.SplitHostPort(freeAddress(w.t))
		if err != nil {
			w.t.Fatal(err)
		}
		w.ports[shown] = port
	}
	return w.ports[shown]
}

// until waits for a condition, of which why says what is missing.
func until(t *testing.T, why string, ok func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v", why, err)
		case <-tick.C:
		}
	}
}

// background runs a block beside the others, and waits until it listens.
func (w *world) background(name, text string) {
	w.t.Helper()
	w.outputs[name] = w.shell.start(w.t, w.own(text))
	if name == "serve" {
		w.awaitReady()
		return
	}
	port := shownPort.FindString(text)
	until(w.t, name+" does not listen", func(ctx context.Context) error {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", "127.0.0.1:"+w.port(port))
		if err == nil {
			_ = c.Close()
		}
		return err
	})
}

func (w *world) awaitReady() {
	w.t.Helper()
	until(w.t, "rowcall is not ready", func(ctx context.Context) error {
		said, err := w.shell.run(ctx, w.t, "bin/rowcall health --ready")
		if err != nil {
			return fmt.Errorf("%w: %s", err, said)
		}
		return nil
	})
	said, err := w.shell.run(w.t.Context(), w.t, `echo "$ROWCALL_API_KEY"`)
	if err != nil {
		w.t.Fatal(err)
	}
	w.key = strings.TrimSpace(said)
	transport := &http.Transport{}
	w.t.Cleanup(transport.CloseIdleConnections)
	if w.api, err = client.New(client.Config{BaseURL: "http://" + w.listen, Key: w.key, Transport: transport}); err != nil {
		w.t.Fatal(err)
	}
}

// serve starts rowcall for a page that takes it for granted.
func (w *world) serve() {
	w.t.Helper()
	if w.api != nil {
		return
	}
	said, err := w.shell.run(w.t.Context(), w.t, "set -a; eval \"$(bin/rowcall keygen)\"; ROWCALL_EGRESS_ALLOW=private; ROWCALL_DATABASE_URL='"+w.database+"'")
	if err != nil {
		w.t.Fatalf("%v: %s", err, said)
	}
	w.background("serve", "bin/rowcall serve")
}

// takeAll subscribes a receiver of the test's own to every event.
func (w *world) takeAll() {
	w.t.Helper()
	w.serve()
	w.received = hooktest.Start(w.t, hooktest.Config{})
	if _, err := w.api.CreateSubscription(w.t.Context(), map[string]any{
		"name": "all of the page", "events": []string{"**"}, "endpoint": map[string]any{"url": w.received.URL()},
	}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) sql(b block) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.database)
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(w.t.Context()))
	if _, err := conn.PgConn().Exec(w.t.Context(), b.text).ReadAll(); err != nil {
		w.t.Fatalf("%s:%d: %v", b.page, b.line, err)
	}
}

// captured waits until a table's changes become events.
func (w *world) captured(table string) {
	w.t.Helper()
	w.serve()
	until(w.t, "table "+table+" is not captured", func(ctx context.Context) error {
		found, err := w.api.Sources(ctx)
		if err != nil {
			return err
		}
		for _, s := range found.Items {
			for _, r := range s.Relations {
				if r.Name == table && r.Captured && s.State == "streaming" {
					return nil
				}
			}
		}
		return fmt.Errorf("%+v", found.Items)
	})
}

// delivers checks the first event of the block's type that no block has shown.
func (w *world) delivers(b block) {
	w.t.Helper()
	var shown struct{ Type string }
	if err := json.Unmarshal([]byte(b.text), &shown); err != nil {
		w.t.Fatalf("%s:%d: %v", b.page, b.line, err)
	}
	var body []byte
	until(w.t, fmt.Sprintf("%s:%d", b.page, b.line), func(context.Context) error {
		for _, d := range w.received.Deliveries() {
			if d.Type == shown.Type && !w.seen[d.Source+d.ID] {
				w.seen[d.Source+d.ID], body = true, d.Body
				return nil
			}
		}
		return errors.New("no " + shown.Type + " came")
	})
	want, got := number(w.t, []byte(w.shown(b.text))), number(w.t, body)
	if diff := cmp.Diff(want, blank(want, got)); diff != "" {
		w.t.Errorf("%s:%d: another event came (-page +event):\n%s", b.page, b.line, diff)
	}
}

func number(t *testing.T, text []byte) any {
	t.Helper()
	var v any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

// blank puts … into got wherever want has it.
func blank(want, got any) any {
	switch w := want.(type) {
	case string:
		if w == "…" && got != nil && got != "" {
			return w
		}
	case map[string]any:
		if g, ok := got.(map[string]any); ok {
			for name, value := range w {
				if _, there := g[name]; there {
					g[name] = blank(value, g[name])
				}
			}
		}
	case []any:
		if g, ok := got.([]any); ok && len(g) == len(w) {
			for i := range w {
				g[i] = blank(w[i], g[i])
			}
		}
	}
	return got
}

// subscription has the API take what the block shows.
func (w *world) subscription(b block, n int) {
	w.t.Helper()
	w.serve()
	text := strings.ReplaceAll(w.own(b.text), `-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n`, certificate(w.t))
	given, ok := number(w.t, []byte(text)).(map[string]any)
	if !ok {
		w.t.Fatalf("%s:%d: no object", b.page, b.line)
	}
	spec := map[string]any{
		"events": []string{"public.orders.*"}, "endpoint": map[string]any{"url": w.own("http://127.0.0.1:9000/hook")},
	}
	for name, value := range given {
		spec[name] = value
	}
	spec["name"] = fmt.Sprintf("example %d", n)
	sub, err := w.api.CreateSubscription(w.t.Context(), spec)
	if err != nil {
		w.t.Errorf("%s:%d: %v", b.page, b.line, err)
		return
	}
	// Nobody publishes in the world of the pages.
	sub.Warnings = slices.DeleteFunc(sub.Warnings, func(warning string) bool {
		return strings.HasPrefix(warning, `events, pattern "user.`) && strings.HasSuffix(warning, "somebody publishes them")
	})
	if len(sub.Warnings) > 0 {
		w.t.Errorf("%s:%d: the example has warnings: %v", b.page, b.line, sub.Warnings)
	}
}

// play does what the blocks of a page say, in their order.
func (w *world) play(bs []block) {
	t := w.t
	t.Helper()
	output := ""
	for i, b := range bs {
		where := fmt.Sprintf("%s:%d", b.page, b.line)
		until := b.mark == "run" && b.argument == "until shown"
		if b.mark == "shows" {
			b.text = w.shown(b.text)
		}
		if table, ok := strings.CutPrefix(b.argument, "until captured "); ok && b.mark == "run" {
			w.captured(table)
			if w.received == nil && slices.ContainsFunc(bs, func(b block) bool { return b.mark == "delivers" }) {
				w.takeAll()
			}
		} else if name, ok := strings.CutPrefix(b.argument, "background "); ok && b.mark == "run" {
			w.background(name, b.text)
			continue
		}
		switch {
		case b.mark == "not run" || b.mark == "file":
			if b.argument == "" {
				t.Errorf("%s: say why", where)
			}
		case b.mark == "subscription":
			w.subscription(b, i)
		case b.mark == "delivers":
			w.delivers(b)
		case b.mark == "shows" && b.argument != "":
			w.shows(where, b.text, w.output(b.argument))
		case b.mark == "shows":
			if line := missing(b.text, output); line != "" {
				t.Errorf("%s: not shown: %s\nbut:\n%s", where, line, output)
			}
		case b.language == "sql":
			w.sql(b)
		case b.language == "sh" && until:
			if i+1 == len(bs) || bs[i+1].mark != "shows" {
				t.Fatalf("%s: nothing is shown", where)
			}
			output = w.shows(where, w.shown(bs[i+1].text), func(ctx context.Context) (string, error) {
				return w.shell.run(ctx, t, w.own(b.text))
			})
		case b.language == "sh" && b.argument == "until done":
			w.shows(where, "", func(ctx context.Context) (string, error) { return w.shell.run(ctx, t, w.own(b.text)) })
		case b.language == "sh":
			if !slices.ContainsFunc(bs, func(b block) bool { return b.argument == "background serve" }) {
				w.serve()
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			said, err := w.shell.run(ctx, t, w.own(b.text))
			cancel()
			if err != nil {
				t.Fatalf("%s: %v\n%s", where, err, said)
			}
			output = said
		}
	}
}

// output reads what something in the background has said until now.
func (w *world) output(name string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		content, err := os.ReadFile(w.outputs[name])
		return string(content), err
	}
}

// shows waits until what get returns is as shown.
func (w *world) shows(where, want string, get func(context.Context) (string, error)) (output string) {
	w.t.Helper()
	until(w.t, where, func(ctx context.Context) error {
		var err error
		if output, err = get(ctx); err != nil {
			return fmt.Errorf("%w: %s", err, output)
		}
		if line := missing(want, output); line != "" {
			return errors.New("not shown: " + line + "\nbut:\n" + output)
		}
		return nil
	})
	return output
}

// pattern is a line of a page as a regular expression.
func pattern(line string) *regexp.Regexp {
	var parts []string
	for part := range strings.SplitSeq(line, "…") {
		words := strings.Fields(part)
		for i := range words {
			words[i] = regexp.QuoteMeta(words[i])
		}
		text := strings.Join(words, `\s+`)
		if strings.HasPrefix(part, " ") {
			text = `\s*` + text
		}
		parts = append(parts, text)
	}
	return regexp.MustCompile(`^\s*` + strings.Join(parts, ".*") + `\s*$`)
}

func TestTheCommandsOfThePagesDoWhatThePagesSay(t *testing.T) {
	t.Parallel()
	for _, page := range pages(t) {
		bs := blocks(t, page)
		does := slices.ContainsFunc(bs, func(b block) bool {
			return b.mark != "not run" && (b.mark == "subscription" || b.language == "sh" || b.language == "sql")
		})
		if !does {
			continue
		}
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			newWorld(t).play(bs)
		})
	}
}
