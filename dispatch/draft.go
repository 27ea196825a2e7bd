package dispatch

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// Draft is the request of an attempt as people may see it.
type Draft struct {
	URL     string
	Header  http.Header // without what signs, and without secrets
	Body    []byte      // byte for byte
	Batched bool        // Body is an array, in which other events may go along
}

const redacted = "[redacted]"

// NewDraft makes the request of an attempt at a time, by the subscription as it
// is: the same code makes what is sent. The event's data is as transformed; replay
// is what the attempt is of, empty: none. Its error is NewTarget's.
func NewDraft(sub *subscriptions.Subscription, e *store.Event, replay store.JobID, at time.Time, attempt int, version string) (Draft, error) {
	t, err := NewTarget(sub)
	if err != nil {
		return Draft{}, err
	}
	if replay != "" {
		t.forReplay(replay)
	}
	env := t.envelope()
	body := env.fill(NewSender(nil, version), t, e, nil, at, attempt)
	d := Draft{URL: t.url.String(), Header: http.Header{"Host": {t.url.Host}, "Content-Length": {strconv.Itoa(len(body))}}, Body: slices.Clone(body), Batched: t.batched}
	for name, values := range env.header {
		d.Header[name] = slices.Clone(values)
	}
	var schemes []string
	for signature := range strings.FieldsSeq(d.Header.Get(headerSignature)) {
		scheme, _, _ := strings.Cut(signature, ",")
		schemes = append(schemes, scheme+","+redacted)
	}
	d.Header[headerSignature] = []string{strings.Join(schemes, " ")}
	if scheme, _, given := strings.Cut(d.Header.Get("Authorization"), " "); given {
		d.Header["Authorization"] = []string{scheme + " " + redacted}
	} else if t.oauth != nil {
		d.Header["Authorization"] = []string{"Bearer " + redacted}
	} else if scheme != "" {
		d.Header["Authorization"] = []string{redacted}
	}
	return d, nil
}
