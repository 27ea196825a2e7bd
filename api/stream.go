package api

import (
	"bytes"
	"errors"
	"net/http"
	"strconv"
	"time"
)

// stream writes server-sent events: they are gathered, and go out together.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	wait    time.Duration // for a write
	buf     []byte
}

// newStream begins the answer. The server's limits for requests, which this one
// outlives, are lifted; every write has one of its own.
func newStream(w http.ResponseWriter) *stream {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // proxies would gather what is to come at once
	s := &stream{w: w, control: http.NewResponseController(w), wait: tailWrite}
	_ = s.control.SetReadDeadline(time.Time{}) // where there is none, there is none to lift
	s.buf = strconv.AppendInt(append(s.buf, "retry: "...), tailRetry, 10)
	s.buf = append(s.buf, "\n\n"...)
	w.WriteHeader(http.StatusOK)
	return s
}

// add puts a message in line. Lines of data are told apart as the format asks.
func (s *stream) add(event, id string, data []byte) {
	s.buf = append(append(append(s.buf, "event: "...), event...), '\n')
	if id != "" {
		s.buf = append(append(append(s.buf, "id: "...), id...), '\n')
	}
	data = bytes.TrimSuffix(data, []byte("\n"))
	for more := true; more; {
		line := data
		end := bytes.IndexAny(data, "\r\n")
		if more = end >= 0; more {
			line = data[:end]
			if bytes.HasPrefix(data[end:], []byte("\r\n")) {
				end++
			}
			data = data[end+1:]
		}
		s.buf = append(append(append(s.buf, "data: "...), line...), '\n')
	}
	s.buf = append(s.buf, '\n')
}

// beat puts a sign of life in line, and where to go on.
func (s *stream) beat(id string) {
	s.buf = append(append(append(s.buf, ":\nid: "...), id...), "\n\n"...)
}

func (s *stream) empty() bool { return len(s.buf) == 0 }

// flush writes what is in line, within wait. Its error means that the client
// has gone, or does not read.
func (s *stream) flush() error {
	if err := s.control.SetWriteDeadline(time.Now().Add(s.wait)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	_, err := s.w.Write(s.buf)
	if cap(s.buf) > 4*tailBytes {
		s.buf = nil
	}
	s.buf = s.buf[:0]
	if err != nil {
		return err
	}
	return s.control.Flush()
}
