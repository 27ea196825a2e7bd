// Command receivers receives webhooks of rowcall: it verifies each, takes it
// once, and prints it.
//
//	WEBHOOK_SECRET=whsec_… go run receiver.go [PORT]
package main

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	tolerance = 5 * time.Minute
	maxBody   = 16 << 20
)

// verify returns nil if one of the signatures was made of these bytes, lately.
func verify(key []byte, header http.Header, body []byte, now time.Time) error {
	id, timestamp := header.Get("webhook-id"), header.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > tolerance {
		return errors.New("the timestamp is missing or too far away")
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", id, timestamp, body)
	want := []byte("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	for _, signature := range strings.Fields(header.Get("webhook-signature")) {
		if hmac.Equal([]byte(signature), want) {
			return nil
		}
	}
	return errors.New("no signature matches")
}

type event struct {
	ID, Source, Type, Subject string
	Data                      json.RawMessage
}

// receiver takes events once. In your program seen is a table, written in the
// transaction of the effect.
type receiver struct {
	key []byte

	mu   sync.Mutex
	seen map[[2]string]bool
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
	if err != nil {
		http.Error(w, "cannot read the body", http.StatusRequestEntityTooLarge)
		return
	}
	if err := verify(r.key, req.Header, body, time.Now()); err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	events := make([]event, 1)
	if bytes.HasPrefix(body, []byte("[")) { // a batch
		err = json.Unmarshal(body, &events)
	} else {
		err = json.Unmarshal(body, &events[0])
	}
	if err != nil {
		http.Error(w, "not the events that were expected", http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range events {
		if r.seen[[2]string{e.Source, e.ID}] {
			continue // it came before: say so with a 2xx
		}
		r.seen[[2]string{e.Source, e.ID}] = true
		fmt.Fprintln(os.Stdout, e.Type, e.Subject, string(e.Data))
	}
	w.WriteHeader(http.StatusNoContent) // only now: what was answered with 2xx does not come again
}

func main() {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(os.Getenv("WEBHOOK_SECRET"), "whsec_"))
	if err != nil || len(key) == 0 {
		fmt.Fprintln(os.Stderr, "WEBHOOK_SECRET is not a signing secret")
		os.Exit(2)
	}
	port := "9000"
	if len(os.Args) > 1 {
		port = os.Args[1]
	}
	server := http.Server{
		Addr:              net.JoinHostPort(cmp.Or(os.Getenv("LISTEN_HOST"), "127.0.0.1"), port),
		Handler:           &receiver{key: key, seen: map[[2]string]bool{}},
		ReadHeaderTimeout: 5 * time.Second,
	}
	fmt.Fprintln(os.Stderr, server.ListenAndServe())
	os.Exit(1)
}
