package dispatch

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/store"
)

// maxHistory bounds the attempts that wait to be written. Beyond it attempts
// are lost to history, and counted: delivery does not rest on it.
const maxHistory = 50_000

// history writes attempts, in batches, off the path of delivery.
type history struct {
	save func(ctx context.Context, as []store.Attempt) error
	lost func(n int)
	log  zerolog.Logger

	mu    sync.Mutex
	queue []store.Attempt
	rows  int // of queue
	some  chan struct{}
}

func newHistory(save func(context.Context, []store.Attempt) error, lost func(int), log zerolog.Logger) *history {
	return &history{save: save, lost: lost, log: log, some: make(chan struct{}, 1)}
}

func (h *history) add(as []store.Attempt) {
	h.mu.Lock()
	fit, rows, left := fitting(as, maxHistory-h.rows)
	h.queue = append(h.queue, as[:fit]...)
	h.rows += rows
	h.mu.Unlock()
	if left > 0 {
		h.lost(left)
	}
	poke(h.some)
}

// fitting is how many of the attempts, from the first on, have at most room rows
// together, how many rows that is, and how many the others have.
func fitting(as []store.Attempt, room int) (fit, rows, left int) {
	for i := range as {
		n := as[i].Rows()
		if left == 0 && rows+n <= room {
			fit++
			rows += n
		} else {
			left += n
		}
	}
	return fit, rows, left
}

// run writes until ctx ends, and then what is left.
func (h *history) run(ctx context.Context) {
	failing := false
	for {
		select {
		case <-ctx.Done():
			final, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			if err := h.write(final); err != nil {
				h.log.Warn().Err(err).Msg("cannot save the last attempts")
			}
			return
		case <-h.some:
		}
		if err := h.write(ctx); err != nil {
			if !failing && ctx.Err() == nil {
				h.log.Warn().Err(err).Msg("cannot save attempts, trying again")
			}
			failing = true
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
				poke(h.some)
			}
		} else if failing {
			failing = false
			h.log.Info().Msg("saving attempts again")
		}
	}
}

// write saves what waits; what it could not save waits on, where it fits.
func (h *history) write(ctx context.Context) error {
	h.mu.Lock()
	as, rows := h.queue, h.rows
	h.queue, h.rows = nil, 0
	h.mu.Unlock()
	if len(as) == 0 {
		return nil
	}
	err := h.save(ctx, as)
	if err == nil {
		return nil
	}
	if !store.Unavailable(err) {
		h.lost(rows) // they would be refused again
		return err
	}
	h.mu.Lock()
	fit, rows, left := fitting(as, maxHistory-h.rows)
	h.queue = slices.Concat(as[:fit], h.queue)
	h.rows += rows
	h.mu.Unlock()
	if left > 0 {
		h.lost(left)
	}
	return err
}

// maxDetailHeaders bounds the response headers that are kept of a failure.
const maxDetailHeaders = 32

// detail is what is kept of a failed attempt: the error, and the response's
// headers and the start of its body, and the webhook-id of a batch.
func detail(r Reply, batch string) json.RawMessage {
	kept := struct {
		Error   string            `json:"error,omitempty"`
		Headers map[string]string `json:"headers,omitempty"`
		Body    string            `json:"body,omitempty"`
		Batch   string            `json:"batch,omitempty"`
	}{Error: errorText(r.Err), Headers: keptHeaders(r.Header), Body: string(r.Body), Batch: batch}
	text, err := json.Marshal(kept)
	if err != nil {
		return nil // strings always marshal
	}
	return text
}

// keptHeaders leaves out what may carry secrets.
func keptHeaders(h http.Header) map[string]string {
	if len(h) == 0 {
		return nil
	}
	kept := make(map[string]string, min(len(h), maxDetailHeaders))
	for name, values := range h {
		if len(kept) == maxDetailHeaders {
			break
		}
		switch name {
		case "Set-Cookie", "Authorization", "Www-Authenticate", "Proxy-Authenticate":
			kept[name] = "[redacted]"
		default:
			text := strings.Join(values, ", ")
			kept[name] = text[:min(len(text), 256)]
		}
	}
	return kept
}
