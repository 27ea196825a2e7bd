package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/rowcall/rowcall/api/client"
)

// attemptRow is a try with what is kept of its answer.
type attemptRow struct {
	client.Attempt
	Waited  time.Duration // since the try before; 0: the first, or not known
	Same    bool          // the answer of the try before said the same
	Error   string
	Headers map[string]string
	Body    string
}

// attemptRows reads the details of tries that are listed newest first.
func attemptRows(of []client.Attempt) []attemptRow {
	rows := make([]attemptRow, len(of))
	for i, a := range of {
		rows[i].Attempt = a
		var detail struct {
			Error   string            `json:"error"`
			Headers map[string]string `json:"headers"`
			Body    string            `json:"body"`
		}
		if len(a.Detail) > 0 && json.Unmarshal(a.Detail, &detail) == nil {
			rows[i].Error, rows[i].Headers, rows[i].Body = detail.Error, detail.Headers, detail.Body
		}
	}
	for i := range rows {
		if i+1 == len(rows) || rows[i].Subscription != rows[i+1].Subscription {
			continue
		}
		before := &rows[i+1]
		rows[i].Waited = rows[i].At.Sub(before.At)
		rows[i].Same = rows[i].Status == before.Status && rows[i].Reason == before.Reason && rows[i].Body == before.Body && rows[i].Outcome == before.Outcome
	}
	return rows
}

type deliveryView struct {
	client.Delivery
	Name       string
	Group      string // the address of its group
	Attempts   []attemptRow
	Before     []client.Delivery // that it waits behind
	After      int               // of its key, that wait behind it
	AfterMore  bool
	Unknown    bool        // there are too many deliveries to look for those of its key
	Answer     *attemptRow // the last one with anything to show
	Curl       string
	MayDeliver bool
}

func showDelivery(v *visit) error {
	view, err := readDelivery(v)
	if err != nil {
		return err
	}
	return v.render("delivery", "failed", deliveryTitle(&view.Delivery), view)
}

func deliveryTitle(d *client.Delivery) string {
	if d.Event == nil {
		return "Delivery " + d.ID
	}
	return strings.TrimSpace(d.Event.Type + " " + d.Event.Subject)
}

// relatedLimit is how many deliveries of the same key are looked at.
const relatedLimit = 100

// relatedTime is how long that may take: among a million deliveries of a
// subscription, finding those of one key means to look at all.
const relatedTime = 300 * time.Millisecond

func readDelivery(v *visit) (deliveryView, error) {
	ctx := v.Context()
	d, err := v.api.Delivery(ctx, v.param("id"))
	if err != nil {
		return deliveryView{}, err
	}
	view := deliveryView{Delivery: d, Name: d.Subscription, MayDeliver: v.may("deliver")}
	view.Group = "/failed/deliveries" + failedFilter{Subscription: d.Subscription, State: d.State, Reason: d.Reason}.query()
	sub, err := v.api.Subscription(ctx, d.Subscription)
	if err != nil {
		return deliveryView{}, err
	}
	view.Name = sub.Name
	if d.Event != nil {
		tries, err := v.api.Attempts(ctx, client.AttemptQuery{PageQuery: client.PageQuery{Limit: 100}, Subscription: d.Subscription, Event: d.Event.ID})
		if err != nil {
			return deliveryView{}, err
		}
		view.Attempts = attemptRows(tries.Items)
		for i := range view.Attempts {
			if a := &view.Attempts[i]; a.Body != "" || len(a.Headers) > 0 {
				view.Answer = a
				break
			}
		}
		view.Curl = curlCommand(sub, d.Event)
	}
	quick, cancel := context.WithTimeout(ctx, relatedTime)
	defer cancel()
	for _, key := range d.Keys {
		related, err := v.api.Deliveries(quick, client.DeliveryQuery{
			PageQuery: client.PageQuery{Limit: relatedLimit}, Subscription: d.Subscription, Key: key,
		})
		if quick.Err() != nil && ctx.Err() == nil {
			view.Unknown = true
			break
		}
		if err != nil {
			return deliveryView{}, err
		}
		view.AfterMore = view.AfterMore || related.NextCursor != nil
		for _, other := range related.Items {
			switch {
			case other.Sequence < d.Sequence && other.State != "dead":
				view.Before = append(view.Before, other)
			case other.Sequence > d.Sequence && other.State == "blocked":
				view.After++
			}
		}
	}
	slices.SortFunc(view.Before, func(a, b client.Delivery) int { return strings.Compare(a.Sequence, b.Sequence) })
	return view, nil
}

// curlCommand sends the event by hand: without rowcall's signature, which only
// rowcall can make, and without the endpoint's secrets.
func curlCommand(sub client.Subscription, e *client.Event) string {
	body, media := []byte(e.Data), "application/json"
	lines := []string{"curl -i -X POST " + shellQuote(sub.Endpoint.URL)}
	if sub.Format == "cloudevents" || sub.Format == "" {
		media = "application/cloudevents+json"
		var whole bytes.Buffer
		encoder := json.NewEncoder(&whole)
		encoder.SetEscapeHTML(false)
		if encoder.Encode(e) == nil {
			body = bytes.TrimSpace(whole.Bytes())
		}
	}
	lines = append(lines, "-H "+shellQuote("Content-Type: "+media), "-H "+shellQuote("webhook-id: "+e.ID))
	for _, name := range sortedKeys(sub.Endpoint.Headers) {
		lines = append(lines, "-H "+shellQuote(name+": "+sub.Endpoint.Headers[name]))
	}
	return strings.Join(append(lines, "--data-binary "+shellQuote(string(body))), " \\\n  ")
}

// shellQuote makes one word of a text, whatever is in it.
func shellQuote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

type confirmDeliveryView struct {
	deliveryView
	Action string
}

func confirmDelivery(v *visit) error {
	action := v.param("action")
	if action != "retry" && action != "discard" {
		return notFound(v)
	}
	view, err := readDelivery(v)
	if err != nil {
		return err
	}
	title := map[string]string{"retry": "Retry this delivery?", "discard": "Discard this delivery?"}[action]
	return v.render("confirm-delivery", "failed", title, confirmDeliveryView{view, action})
}

func actDelivery(v *visit) error {
	id, action := v.param("id"), v.param("action")
	if action != "retry" && action != "discard" {
		return notFound(v)
	}
	d, err := v.api.Delivery(v.Context(), id)
	if err == nil {
		err = v.request(id, action)
	}
	if err != nil {
		return err
	}
	return v.redirect("/failed/deliveries"+failedFilter{Subscription: d.Subscription}.query("done", action), "")
}

// request retries or discards one. That it is gone meanwhile is what was wanted.
func (v *visit) request(id, action string) error {
	var err error
	if action == "retry" {
		err = v.api.RetryDelivery(v.Context(), id)
	} else {
		err = v.api.DiscardDelivery(v.Context(), id)
	}
	if p, ok := errors.AsType[*client.Problem](err); ok && p.Type == client.NotFound {
		return nil
	}
	return err
}
