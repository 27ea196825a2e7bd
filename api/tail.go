package api

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// Bounds of a tail. It holds one page of the log, which the ring shares with
// everybody, and what is being written: a client that reads slowly is not waited
// for beyond tailWrite, and what it came too late for is counted, not kept.
const (
	tailTick     = 250 * time.Millisecond // how often the log is looked at
	tailAttempts = 4                      // ticks between looks at the attempts
	tailCheck    = 20                     // ticks between looks at the key
	tailBeat     = 40                     // ticks of silence before a heartbeat
	tailWrite    = 10 * time.Second       // for a write, before the client is cut off
	tailRetry    = 2000                   // ms before a browser connects again
	tailPage     = 100                    // events of one read
	tailBytes    = 256 << 10              // bytes of data of one read
	tailSent     = 500                    // messages of a tick
	tailScanned  = 20_000                 // events of the log looked at in a tick
	tailBehind   = 10_000                 // events further behind than this are passed over
	tailData     = 64 << 10               // data of an event that is larger is left out
	tailsAtOnce  = 64                     // of all keys
	tailsOfAKey  = 16
)

type (
	tailInput struct {
		Of           string `query:"of" enum:"events,attempts" doc:"Only these; by default both."`
		Subscription string `query:"subscription" doc:"Attempts of this subscription (id), and no events."`
		Outcome      string `query:"outcome" enum:"delivered,failed,blocked,unknown" doc:"Attempts with this outcome, and no events."`
		Type         string `query:"type" doc:"Events of this type, and their attempts; a pattern, as in a subscription."`
		Key          string `query:"key" doc:"Events of exactly this partitionkey, and their attempts."`
		LastEventID  string `header:"Last-Event-ID" doc:"The id that came last: events go on after it."`
	}
	tailMissed struct {
		Events   int64 `json:"events"`
		Attempts int64 `json:"attempts"`
	}
)

// tailedAttempt is an attempt with what its event is.
type tailedAttempt struct {
	attempt
	Type string `json:"type"`
	Key  string `json:"key"`
}

func (a *API) registerTail() {
	handle(a, huma.Operation{
		OperationID: "tail", Method: http.MethodGet, Path: tailPath, Tags: []string{"events"},
		Summary: "Follow events and attempts as they come, by server-sent events",
		Errors:  []int{http.StatusNotFound},
		Description: "`start` comes first, and says at which offset it begins. `event` is as GET /v1/events/{id} answers, without data over " +
			"64 KiB; its id is the sequence: sent as Last-Event-ID, events go on after it, where that is not more than 10,000 events ago. " +
			"`attempt` is as GET /v1/attempts/{id} answers, with type and key of its event; attempts come about a second after they ended, " +
			"once, from all instances (with ROWCALL_ATTEMPTS=failures, failures alone). `missed` says how many of each were passed over because " +
			"they came faster than they were read. `end` says why there is no more. A comment comes after ten seconds of silence. A key that is " +
			"restricted by labels gets attempts of its subscriptions, and no events.",
		Responses: map[string]*huma.Response{"200": {
			Description: "A stream that does not end by itself.",
			Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}},
		}},
	}, ScopeRead, a.tail)
}

func (a *API) tail(ctx context.Context, in *tailInput) (*huma.StreamResponse, error) {
	t, err := a.newTail(ctx, in)
	if err != nil {
		return nil, err
	}
	if !a.tails.take(caller(ctx)) {
		return nil, newProblem(problemRateLimited, "too many streams are open: end some").with("Retry-After", "10")
	}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		defer a.tails.leave(caller(ctx.Context()))
		r, w := humachi.Unwrap(ctx)
		t.run(r, w)
	}}, nil
}

// tail is one client that follows.
type tail struct {
	api      *API
	events   bool
	attempts bool
	types    *subscriptions.Set // nil: any
	key      string
	filter   store.TailFilter
	scope    Scope

	at      store.Offset // of the next event to look at
	mark    store.AttemptMark
	longest time.Duration // an attempt may take
	missed  tailMissed
}

func (a *API) newTail(ctx context.Context, in *tailInput) (*tail, error) {
	t := &tail{
		api: a, key: in.Key, scope: ScopeRead, at: a.store.Head(),
		filter: store.TailFilter{Labels: restriction(ctx), Type: in.Type, Key: in.Key},
	}
	restricted := len(callersKey(ctx).Labels) > 0
	ofAttempts := in.Subscription != "" || in.Outcome != ""
	t.events = in.Of != "attempts" && !ofAttempts && !restricted
	t.attempts = in.Of != "events"
	switch {
	case in.Of == "events" && restricted:
		return nil, newProblem(problemForbidden, "the key is restricted to some subscriptions by its labels: it sees their attempts, and no events")
	case in.Of == "events" && ofAttempts:
		return nil, invalid("query.of", "events are of no subscription and have no outcome: leave these filters out")
	}
	var err error
	if t.filter.Subscription, err = filterID(in.Subscription); err != nil {
		return nil, err
	}
	if in.Subscription != "" {
		if err := a.checkSeen(ctx, t.filter.Subscription); err != nil {
			return nil, err
		}
	}
	if in.Outcome != "" {
		t.filter.Outcome = new(int16(slices.Index(outcomes(), in.Outcome)))
	}
	if in.Type != "" {
		if err := subscriptions.CheckPattern(in.Type); err != nil {
			return nil, invalid("query.type", err.Error())
		}
		t.types = subscriptions.NewSet([][]string{{in.Type}})
	}
	if in.LastEventID != "" {
		last, err := strconv.ParseInt(in.LastEventID, 10, 64)
		if err != nil || last < 0 {
			return nil, invalid("header.Last-Event-ID", "must be the id of an event of this stream: leave it out to begin with what comes next")
		}
		t.at = min(t.at, store.Offset(last)+1)
	}
	if t.attempts {
		if t.mark, err = a.store.AttemptMark(ctx); err != nil {
			return nil, err
		}
		if t.longest, err = a.store.LongestTimeout(ctx); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// run writes until the client goes, or there is a reason to end.
func (t *tail) run(r *http.Request, w http.ResponseWriter) {
	s := newStream(w)
	ctx := r.Context()
	s.add("start", t.id(), []byte(`{"sequence":"`+t.at.String()+`"}`))
	if s.flush() != nil {
		return
	}
	tick := time.NewTicker(tailTick)
	defer tick.Stop()
	for n, silent := 1, 0; ; n++ {
		why := ""
		select {
		case <-ctx.Done():
			return
		case <-t.api.config.Draining:
			why = "rowcall is stopping"
		case <-tick.C:
		}
		if why == "" && n%tailCheck == 0 {
			why = t.refused(r)
		}
		if why != "" {
			text, _ := json.Marshal(map[string]string{"reason": why}) // strings always marshal
			s.add("end", "", text)
			_ = s.flush()
			return
		}
		t.step(ctx, s, n)
		if silent++; s.empty() && silent >= tailBeat {
			s.beat(t.id())
		}
		if s.empty() {
			continue
		}
		silent = 0
		if s.flush() != nil {
			return
		}
	}
}

// step writes what has come since the last one. What cannot be read now can be
// read later.
func (t *tail) step(ctx context.Context, s *stream, n int) {
	if t.events {
		if err := t.stepEvents(ctx, s); err != nil {
			t.api.log.Debug().Err(err).Msg("tail cannot read the log, trying again")
		}
	}
	if t.attempts && n%tailAttempts == 0 {
		if err := t.stepAttempts(ctx, s); err != nil {
			t.api.log.Debug().Err(err).Msg("tail cannot read attempts, trying again")
		}
	}
	if t.missed != (tailMissed{}) {
		text, _ := json.Marshal(t.missed) // numbers always marshal
		s.add("missed", t.id(), text)
		t.missed = tailMissed{}
	}
}

func (t *tail) stepEvents(ctx context.Context, s *stream) error {
	head := t.api.store.Head()
	if behind := head - t.at; behind > tailBehind {
		t.missed.Events += int64(behind - tailPage)
		t.at = head - tailPage
	}
	sent := 0
	for last := min(head, t.at+tailScanned); t.at < last && sent < tailSent; {
		page, err := t.api.store.Read(ctx, t.at, tailPage, tailBytes)
		if err != nil || len(page) == 0 {
			return err
		}
		for i := range page {
			e := &page[i]
			t.at = e.Offset + 1
			if !t.wants(e) {
				continue
			}
			shown := showEvent(e)
			if len(shown.Data) > tailData {
				shown.Data = nil
			}
			text, err := shown.appendJSON(nil)
			if err != nil {
				return err
			}
			s.add("event", t.id(), text)
			sent++
		}
	}
	return nil
}

func (t *tail) wants(e *store.Event) bool {
	return e.Kind != store.KindGap && (t.types == nil || len(t.types.Match(e.Type)) > 0) &&
		(t.key == "" || t.key == e.Key || t.key == e.OldKey)
}

func (t *tail) stepAttempts(ctx context.Context, s *stream) error {
	const slack = 5 * time.Second // of clocks, and of saving
	found, others, mark, err := t.api.store.AttemptsSince(ctx, t.mark, time.Now().Add(-t.longest-slack), t.filter, tailSent)
	if err != nil {
		return err
	}
	t.mark = mark
	t.missed.Attempts += others
	for i := range found {
		if t.filter.Labels != "" && isNotice(found[i].Type) {
			found[i].Key = "" // of any subscription
		}
		text, err := encode(tailedAttempt{showAttempt(found[i].Attempt), found[i].Type, found[i].Key})
		if err != nil {
			return err
		}
		s.add("attempt", "", text)
	}
	return nil
}

// refused says why the client may not go on; empty where it may.
func (t *tail) refused(r *http.Request) string {
	key, err := t.api.keyOf(r)
	if err == nil && allows(key, t.scope) {
		return ""
	}
	if err != nil && !isRefusal(err) {
		return "" // not known now: an outage of the store ends nothing
	}
	return "the key was revoked, or has expired"
}

// id is what Last-Event-ID is to be for events to go on from here.
func (t *tail) id() string { return (t.at - 1).String() }

// tails bounds the streams that are open. The zero value is ready for use.
type tails struct {
	mu  sync.Mutex
	all int
	of  map[string]int // by key
}

func (t *tails) take(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all >= tailsAtOnce || t.of[key] >= tailsOfAKey {
		return false
	}
	if t.of == nil {
		t.of = map[string]int{}
	}
	t.all++
	t.of[key]++
	return true
}

func (t *tails) leave(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all--
	if t.of[key]--; t.of[key] == 0 {
		delete(t.of, key)
	}
}
