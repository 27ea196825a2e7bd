package docs_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write what the pages show of files anew")

// Pages that show a file show that file.
func TestPagesShowFilesAsTheyAre(t *testing.T) {
	t.Parallel()
	shown := 0
	for _, page := range pages(t) {
		text := read(t, page)
		for _, b := range blocks(t, page) {
			if b.mark != "file" {
				continue
			}
			shown++
			file := read(t, b.argument)
			if file == b.text {
				continue
			}
			if !*update {
				t.Errorf("%s:%d is not %s: run this test with -update", page, b.line, b.argument)
				continue
			}
			mark := "<!-- file: " + b.argument + " -->\n```" + b.language + "\n"
			text = strings.Replace(text, mark+b.text+"```\n", mark+file+"```\n", 1)
			if err := os.WriteFile(page, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if shown < 3 {
		t.Errorf("only %d files are shown", shown)
	}
}

// recorded keeps requests while it passes them on.
type recorded struct {
	to       string
	client   *http.Client
	requests chan *http.Request // with Body as it came
}

func (r *recorded) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	copied := req.Clone(req.Context())
	copied.Body = io.NopCloser(bytes.NewReader(body))
	status, err := send(r.client, r.to, req.Header, body)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	if status == http.StatusNoContent {
		r.requests <- copied
	}
	w.WriteHeader(status)
}

func send(client *http.Client, to string, header http.Header, body []byte) (int, error) {
	req, err := http.NewRequest(http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header = header.Clone()
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// The receivers of the pages take what rowcall sends, once, and nothing else.
func TestTheReceiversOfThePagesVerifyAndDedupe(t *testing.T) {
	t.Parallel()
	for name, command := range map[string]string{
		"Go":     "exec ./receiver 9000",
		"Node":   "exec node docs/receivers/receiver.mjs 9000",
		"Python": "exec python3 docs/receivers/receiver.py 9000",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if name == "Go" {
				build := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(w.shell.dir, "receiver"), "./receivers/receiver.go")
				if said, err := build.CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, said)
				}
			}
			w.sql(block{text: "CREATE TABLE orders (id int PRIMARY KEY); ALTER TABLE orders REPLICA IDENTITY FULL"})
			w.captured("orders")
			client := &http.Client{Transport: &http.Transport{}}
			t.Cleanup(client.CloseIdleConnections)
			between := &recorded{to: w.own("http://127.0.0.1:9000/hook"), client: client, requests: make(chan *http.Request, 100)}
			server := httptest.NewServer(between)
			t.Cleanup(server.Close)
			single, err := w.api.CreateSubscription(t.Context(), map[string]any{
				"name": "single", "events": []string{"public.orders.*"}, "endpoint": map[string]any{"url": server.URL},
				"signing": []string{"v1a", "v1"},
			})
			if err != nil {
				t.Fatal(err)
			}
			w.background("receiver", "WEBHOOK_SECRET="+single.Secret+" "+command)
			w.sql(block{text: "INSERT INTO orders VALUES (1)"})
			w.shows(name, "public.orders.inserted id=1 …", w.output("receiver"))
			var good *http.Request
			select {
			case good = <-between.requests:
			case <-time.After(patience):
				t.Fatal("no request came")
			}
			body, err := io.ReadAll(good.Body)
			if err != nil {
				t.Fatal(err)
			}
			attempt := func(what string, want int, change func(http.Header, []byte) []byte) {
				t.Helper()
				header := good.Header.Clone()
				status, err := send(client, between.to, header, change(header, bytes.Clone(body)))
				if err != nil || status != want {
					t.Errorf("%s: answered %d %v, want %d", what, status, err, want)
				}
			}
			attempt("the same again", 204, func(_ http.Header, b []byte) []byte { return b })
			attempt("another body", 401, func(_ http.Header, b []byte) []byte { return bytes.Replace(b, []byte(`"id":1`), []byte(`"id":2`), 1) })
			attempt("another id", 401, func(h http.Header, b []byte) []byte { h.Set("webhook-id", "01-00-1"); return b })
			attempt("an old timestamp", 401, func(h http.Header, b []byte) []byte { h.Set("webhook-timestamp", "1"); return b })
			attempt("no timestamp", 401, func(h http.Header, b []byte) []byte { h.Del("webhook-timestamp"); return b })
			attempt("no signature", 401, func(h http.Header, b []byte) []byte { h.Del("webhook-signature"); return b })
			attempt("half a signature", 401, func(h http.Header, b []byte) []byte {
				for _, s := range strings.Fields(h.Get("webhook-signature")) {
					if strings.HasPrefix(s, "v1,") {
						h.Set("webhook-signature", s[:len(s)/2])
					}
				}
				return b
			})
			if _, err := w.api.PatchSubscription(t.Context(), single.ID, map[string]any{"batch": map[string]any{"max_events": 10}}, 0); err != nil {
				t.Fatal(err)
			}
			w.sql(block{text: "INSERT INTO orders VALUES (2), (3)"})
			for _, id := range []string{"2", "3"} { // in any order
				w.shows(name, "public.orders.inserted id="+id+" …", w.output("receiver"))
			}
			said, err := w.output("receiver")(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for id := 1; id <= 3; id++ {
				if n := strings.Count(said, fmt.Sprintf("public.orders.inserted id=%d ", id)); n != 1 {
					t.Errorf("order %d was taken %d times:\n%s", id, n, said)
				}
			}
		})
	}
}

// certificate is one in PEM, with its line breaks as JSON writes them.
func certificate(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "internal"}, NotAfter: time.Now().Add(time.Hour), IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), "\n", `\n`)
}
