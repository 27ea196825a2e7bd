package web

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/rowcall/rowcall/api/client"
)

type deliveryView struct {
	client.Delivery
	Name       string
	Group      string // the address of its group
	Attempts   []attemptRow
	Before     []client.Delivery // that it waits behind
	After      int               // of its key, that wait behind it
	AfterMore  bool
	Unknown    bool              // there are too many deliveries to look for those of its key
	Elsewhere  []client.Delivery // of its row, to other subscriptions
	Names      map[string]string // of subscriptions
	Origin     origin
	Sent       *sentRequest // nil: not known
	Others     []attemptRow // the last try of the same event of each other subscription
	Answer     *attemptRow  // the last one with anything to show
	Curl       string
	MayDeliver bool
}

func showDelivery(v *visit) error {
	view, err := readDelivery(v)
	if p, ok := errors.AsType[*client.Problem](err); ok && p.Type == client.NotFound {
		return endedDelivery(v, err)
	}
	if err != nil {
		return err
	}
	if err := readAround(v, &view); err != nil {
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

// relatedTime is how long that may take: deliveries that order no key are looked at
// one by one, by the keys of their events.
const relatedTime = 100 * time.Millisecond

func readDelivery(v *visit) (deliveryView, error) {
	ctx := v.Context()
	d, err := v.api.Delivery(ctx, v.param("id"))
	if err != nil {
		return deliveryView{}, err
	}
	view := deliveryView{Delivery: d, Name: d.Subscription, MayDeliver: v.may("deliver")}
	view.Group = "/failed/deliveries" + groupFilter(&client.DeliveryGroup{Subscription: d.Subscription, State: d.State, Reason: d.Reason, Status: d.Status}).query()
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
			case other.Sequence < d.Sequence && (other.State != "dead" || sub.OnDead == "block"):
				view.Before = append(view.Before, other)
			case other.Sequence > d.Sequence && other.State == "blocked":
				view.After++
			}
		}
	}
	slices.SortFunc(view.Before, func(a, b client.Delivery) int { return strings.Compare(a.Sequence, b.Sequence) })
	return view, nil
}

// sentRequest is what an endpoint is sent.
type sentRequest struct{ client.DeliveryRequest }

// RawBody is the body as a template colours it.
func (r *sentRequest) RawBody() []byte { return []byte(r.Body) }

// readAround reads what stands around a delivery on its page: what was sent, the
// same event elsewhere, the row elsewhere.
func readAround(v *visit, view *deliveryView) error {
	ctx := v.Context()
	names, err := v.names()
	if err != nil {
		return err
	}
	view.Names = names
	if view.Event == nil {
		return nil
	}
	view.Origin = originOf(view.Event)
	sent, err := v.api.DeliveryRequest(ctx, view.ID)
	if p, ok := errors.AsType[*client.Problem](err); err != nil && (!ok || p.Type != client.NotFound) {
		return err
	}
	if err == nil {
		view.Sent, view.Curl = &sentRequest{sent}, curlCommand(&sent)
	}
	tries, err := v.api.Attempts(ctx, client.AttemptQuery{PageQuery: client.PageQuery{Limit: 100}, Event: view.Event.ID})
	if err != nil {
		return err
	}
	seen := map[string]bool{view.Subscription: true, "": true}
	for _, a := range tries.Items {
		if !seen[a.Subscription] {
			seen[a.Subscription] = true
			view.Others = append(view.Others, attemptRow{Attempt: a})
		}
	}
	if view.Unknown {
		return nil // it would not be found in time either
	}
	quick, cancel := context.WithTimeout(ctx, relatedTime)
	defer cancel()
	for _, key := range view.Keys {
		found, err := v.api.Deliveries(quick, client.DeliveryQuery{PageQuery: client.PageQuery{Limit: 20}, Key: key})
		if quick.Err() != nil && ctx.Err() == nil {
			return nil
		}
		if err != nil {
			return err
		}
		for _, d := range found.Items {
			if d.ID != view.ID {
				view.Elsewhere = append(view.Elsewhere, d)
			}
		}
	}
	return nil
}

// endedDelivery answers for one that is not there any more, from its tries.
func endedDelivery(v *visit, gone error) error {
	tries, err := v.api.Attempts(v.Context(), client.AttemptQuery{PageQuery: client.PageQuery{Limit: 100}, Delivery: v.param("id")})
	if err != nil || len(tries.Items) == 0 {
		return gone
	}
	view := endedView{Attempts: attemptRows(tries.Items), ID: v.param("id"), Subscription: tries.Items[0].Subscription, Sequence: tries.Items[0].Sequence}
	title := "This delivery has ended."
	if tries.Items[0].Outcome == "delivered" {
		title = "This was delivered."
	}
	sub, err := v.api.Subscription(v.Context(), view.Subscription)
	if p, ok := errors.AsType[*client.Problem](err); err != nil && (!ok || p.Type != client.NotFound) {
		return err
	}
	view.Name = sub.Name
	return v.render("ended", "failed", title, view)
}

// endedView is a delivery that is not there any more.
type endedView struct {
	ID, Subscription, Name, Sequence string
	Attempts                         []attemptRow
}

// curlCommand sends the request by hand: without rowcall's signature, which only
// rowcall can make, and without the endpoint's secrets.
func curlCommand(r *client.DeliveryRequest) string {
	if r.Error != "" {
		return ""
	}
	lines := []string{"curl -i -X POST " + shellQuote(r.URL)}
	for _, name := range sortedKeys(r.Headers) {
		if strings.Contains(r.Headers[name], "[redacted]") || name == "Host" || name == "Content-Length" {
			continue
		}
		lines = append(lines, "-H "+shellQuote(name+": "+r.Headers[name]))
	}
	return strings.Join(append(lines, "--data-binary "+shellQuote(r.Body)), " \\\n  ")
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
		err = v.noting().RetryDelivery(v.Context(), id)
	} else {
		err = v.noting().DiscardDelivery(v.Context(), id)
	}
	if p, ok := errors.AsType[*client.Problem](err); ok && p.Type == client.NotFound {
		return nil
	}
	return err
}
