package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
)

// TailQuery says what to follow. What is empty does not filter.
type TailQuery struct {
	Of           string // events or attempts; empty: both
	Subscription string // id: its attempts, and no events
	Outcome      string // attempts with it, and no events
	Type         string // an event pattern
	Key          string
	After        string // TailMessage.ID: events go on after it; empty: what comes next
}

// TailMessage is one message of a tail: one of its members is set.
type TailMessage struct {
	ID      string // where to go on after it
	Start   *TailStart
	Event   *Event // without Data where that has more than 64 KiB
	Attempt *TailedAttempt
	Missed  *TailMissed
}

// TailStart is the first message.
type TailStart struct {
	Sequence string `json:"sequence"` // the first offset that is followed
}

// TailedAttempt is an attempt with what its event is.
type TailedAttempt struct {
	Attempt
	Type string `json:"type"`
	Key  string `json:"key"`
}

// TailMissed says how many came faster than they were read.
type TailMissed struct {
	Events   int64 `json:"events"`
	Attempts int64 `json:"attempts"`
}

// errTailEnded is the word of rowcall that there is no more.
type errTailEnded struct{ reason string }

func (e errTailEnded) Error() string { return "the stream has ended: " + e.reason }

// Tail follows events and attempts as they come, until ctx ends or the connection
// does, which is its last error. To go on, ask again with After.
func (c *Client) Tail(ctx context.Context, q TailQuery) iter.Seq2[TailMessage, error] {
	return func(yield func(TailMessage, error) bool) {
		if err := c.tail(ctx, q, func(m TailMessage) bool { return yield(m, nil) }); err != nil {
			yield(TailMessage{}, err)
		}
	}
}

func (c *Client) tail(ctx context.Context, q TailQuery, yield func(TailMessage) bool) error {
	v := url.Values{}
	set(v, "of", q.Of)
	set(v, "subscription", q.Subscription)
	set(v, "outcome", q.Outcome)
	set(v, "type", q.Type)
	set(v, "key", q.Key)
	req, err := c.request(ctx, call{method: http.MethodGet, path: []string{"v1", "tail"}, query: v})
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	if q.After != "" {
		req.Header.Set("Last-Event-ID", q.After)
	}
	endless := *c.http
	endless.Timeout = 0
	resp, err := endless.Do(req)
	if err != nil {
		return fmt.Errorf("call %s: %w", req.Method, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		if err != nil {
			return fmt.Errorf("read answer: %w", err)
		}
		return problemOf(resp, body)
	}
	return readStream(resp.Body, yield)
}

// maxLine bounds a line of a stream: an event's data is one, of 64 KiB at most.
const maxLine = 1 << 20

// readStream reads server-sent events until there are no more, or nobody wants them.
func readStream(r io.Reader, yield func(TailMessage) bool) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	var kind, id string
	var data []byte
	for lines.Scan() {
		name, value, _ := bytes.Cut(lines.Bytes(), []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(name) {
		case "event":
			kind = string(value)
		case "id":
			id = string(value)
		case "data":
			data = append(append(data, value...), '\n')
		case "":
			if len(lines.Bytes()) > 0 || len(data) == 0 {
				continue
			}
			m, err := readTailMessage(kind, data)
			if err != nil {
				return err
			}
			if m.ID = id; m != (TailMessage{ID: id}) && !yield(m) {
				return nil
			}
			kind, data = "", data[:0]
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read stream: %w", err)
	}
	return fmt.Errorf("read stream: %w", io.ErrUnexpectedEOF)
}

// readTailMessage reads one; it is zero where this client does not know its kind.
func readTailMessage(kind string, data []byte) (m TailMessage, err error) {
	var end struct {
		Reason string `json:"reason"`
	}
	switch kind {
	case "start":
		err = json.Unmarshal(data, &m.Start)
	case "event":
		err = json.Unmarshal(data, &m.Event)
	case "attempt":
		err = json.Unmarshal(data, &m.Attempt)
	case "missed":
		err = json.Unmarshal(data, &m.Missed)
	case "end":
		if err = json.Unmarshal(data, &end); err == nil {
			return m, errTailEnded{end.Reason}
		}
	}
	if err != nil {
		return m, fmt.Errorf("read stream: %w", errors.Join(errors.New("a message is not as it should be"), err))
	}
	return m, nil
}
