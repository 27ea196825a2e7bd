package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// tally is what the receiver saw on one path since it was last reset.
type tally struct {
	Count      int     `json:"count"`
	Unique     int     `json:"unique"`
	Duplicates int     `json:"duplicates"`
	OutOfOrder int     `json:"out_of_order"`
	P50        float64 `json:"p50_ms"`
	P95        float64 `json:"p95_ms"`
	P99        float64 `json:"p99_ms"`
	First      int64   `json:"first_us"`
	Last       int64   `json:"last_us"`
	Bytes      int64   `json:"bytes"`
}

// mode is how a path behaves: it answers at once, unless told otherwise.
type mode struct {
	Hang bool `json:"hang"`
	Fail bool `json:"fail"`
}

// lane is the receiver's book-keeping of one path.
type lane struct {
	mu        sync.Mutex
	tally     tally
	seen      map[uint64]struct{} // ids, by hash
	order     map[uint64]uint64   // key → last sequence
	latencies []int32             // µs
}

// receive serves endpoints until ctx ends: POST /hook/<lane> takes an event, PUT
// /mode/<lane> says how it behaves from then on, GET
// /tally/<lane> says what was seen, which takes a sort, GET /unique/<lane> says how
// many different events that were, DELETE forgets it. It answers as soon as it has
// read the body: what it keeps costs about a microsecond.
func receive(ctx context.Context) error {
	var mu sync.Mutex
	lanes := map[string]*lane{}
	of := func(name string) *lane {
		mu.Lock()
		defer mu.Unlock()
		if lanes[name] == nil {
			lanes[name] = &lane{seen: map[uint64]struct{}{}, order: map[uint64]uint64{}}
		}
		return lanes[name]
	}
	modes := map[string]mode{}
	seed := maphash.MakeSeed()
	buffers := sync.Pool{New: func() any { return new(bytes.Buffer) }}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /hook/{lane}", func(w http.ResponseWriter, r *http.Request) {
		b := buffers.Get().(*bytes.Buffer)
		defer buffers.Put(b)
		b.Reset()
		if _, err := io.Copy(b, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		mu.Lock()
		m := modes[r.PathValue("lane")]
		mu.Unlock()
		if m.Hang {
			<-r.Context().Done()
			return
		}
		if m.Fail {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		of(r.PathValue("lane")).take(seed, b.Bytes(), time.Now())
	})
	mux.HandleFunc("POST /bare", func(_ http.ResponseWriter, r *http.Request) {
		b := buffers.Get().(*bytes.Buffer)
		defer buffers.Put(b)
		b.Reset()
		_, _ = io.Copy(b, r.Body)
		of("bare").take(seed, b.Bytes(), time.Now())
	})
	mux.HandleFunc("GET /tally/{lane}", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(of(r.PathValue("lane")).result())
	})
	mux.HandleFunc("GET /unique/{lane}", func(w http.ResponseWriter, r *http.Request) {
		l := of(r.PathValue("lane"))
		l.mu.Lock()
		defer l.mu.Unlock()
		fmt.Fprint(w, len(l.seen))
	})
	mux.HandleFunc("PUT /mode/{lane}", func(w http.ResponseWriter, r *http.Request) {
		var m mode
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		modes[r.PathValue("lane")] = m
	})
	mux.HandleFunc("DELETE /tally/{lane}", func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		delete(lanes, r.PathValue("lane"))
	})
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(listener); ctx.Err() == nil {
		return err
	}
	return nil
}

// take books the event of a body, or the events of an array.
func (l *lane) take(seed maphash.Seed, body []byte, at time.Time) {
	start := []byte(`{"specversion"`)
	if len(body) == 0 || body[0] != '[' {
		l.takeEvent(seed, body, at)
		return
	}
	for body = body[1:]; len(body) > 0; {
		next := bytes.Index(body[1:], start) + 1
		if next == 0 {
			next = len(body)
		}
		l.takeEvent(seed, body[:next], at)
		body = body[next:]
	}
}

// takeEvent books one event, read off its text by the names of its members.
func (l *lane) takeEvent(seed maphash.Seed, body []byte, at time.Time) {
	id, key, sequence, sent := member(body, `"id":"`), member(body, `"partitionkey":"`), member(body, `"sequence":"`), member(body, `"time":"`)
	number, _ := strconv.ParseUint(string(sequence), 10, 64)
	committed, err := time.Parse(time.RFC3339Nano, string(sent))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tally.Count++
	l.tally.Bytes += int64(len(body))
	if l.tally.First == 0 {
		l.tally.First = at.UnixMicro()
	}
	l.tally.Last = at.UnixMicro()
	if err == nil {
		l.latencies = append(l.latencies, int32(min(at.Sub(committed).Microseconds(), 1<<30)))
	}
	if len(id) == 0 {
		return
	}
	hash := maphash.Bytes(seed, id)
	if _, again := l.seen[hash]; again {
		l.tally.Duplicates++
		return
	}
	l.seen[hash] = struct{}{}
	ordered := maphash.Bytes(seed, key)
	if last, ok := l.order[ordered]; ok && last >= number {
		l.tally.OutOfOrder++
	}
	l.order[ordered] = number
}

// member is the text behind a member's name up to the next quote.
func member(body []byte, name string) []byte {
	_, rest, ok := bytes.Cut(body, []byte(name))
	if !ok {
		return nil
	}
	text, _, _ := bytes.Cut(rest, []byte{'"'})
	return text
}

func (l *lane) result() tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tally
	t.Unique = len(l.seen)
	sorted := slices.Sorted(slices.Values(l.latencies))
	at := func(q float64) float64 {
		if len(sorted) == 0 {
			return 0
		}
		return float64(sorted[int(q*float64(len(sorted)-1))]) / 1000
	}
	t.P50, t.P95, t.P99 = at(.5), at(.95), at(.99)
	return t
}

// tallyOf asks the receiver what it saw.
func tallyOf(ctx context.Context, base, lane string) (tally, error) {
	var t tally
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/tally/"+lane, nil)
	if err != nil {
		return t, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return t, err
	}
	defer response.Body.Close()
	return t, json.NewDecoder(response.Body).Decode(&t)
}

// uniqueOf asks the receiver how many different events it has. It costs the
// receiver nothing, so it may be asked often.
func uniqueOf(ctx context.Context, base, lane string) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/unique/"+lane, nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(text))
}

// behave has the receiver answer on a path as m says.
func behave(ctx context.Context, base, lane string, m mode) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, base+"/mode/"+lane, bytes.NewReader(text))
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the receiver answers %s", response.Status)
	}
	return nil
}

// forget has the receiver start a lane anew.
func forget(ctx context.Context, base string, lanes ...string) error {
	for _, lane := range lanes {
		request, err := http.NewRequestWithContext(ctx, http.MethodDelete, base+"/tally/"+lane, nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		response.Body.Close()
	}
	return nil
}
