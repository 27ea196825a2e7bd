package web

import (
	"cmp"
	"net/http"
	"strconv"
	"strings"

	"github.com/rowcall/rowcall/api/client"
)

// tryout is what the expressions of a form make of recent events.
type tryout struct {
	client.Preview
	Matched int
}

const triedEvents = 10

// trySubscription shows the form as it was sent, with what its expressions make
// of recent events. Nothing is saved.
func trySubscription(v *visit) error {
	form, err := v.form()
	if err != nil {
		return err
	}
	view, title := formView{ID: form.Get("id")}, "New subscription"
	if view.ID != "" {
		sub, err := v.api.Subscription(v.Context(), view.ID)
		if err != nil {
			return err
		}
		view.Name, view.Version, title = sub.Name, sub.Version, "Edit "+sub.Name
		// The version that the form was made of, as when it is saved.
		if version, err := strconv.ParseInt(form.Get("version"), 10, 64); err == nil {
			view.Version = version
		}
	}
	text := func(name string) *string {
		if value := strings.TrimSpace(form.Get(name)); value != "" {
			return &value
		}
		return nil
	}
	found, err := v.api.PreviewSubscription(v.Context(), client.PreviewQuery{
		Events: append([]string{}, lines(form.Get("events"))...), Filter: text("filter"), Transform: text("transform"), OrderingKey: text("ordering_key"), Limit: triedEvents,
	})
	if err != nil {
		return v.again(title, view, form, err)
	}
	view.Sections, view.MayTry = sections(), true
	view.putBack(form)
	view.Sections[1].Open = true
	view.Tried = &tryout{Preview: found}
	for _, item := range found.Items {
		if item.Matched != nil && *item.Matched {
			view.Tried.Matched++
		}
	}
	return v.render("form", "subscriptions", title, view)
}

// tail passes the API's stream of events on to who is signed in, from behind the
// offset after on.
func (c *Console) tail(w http.ResponseWriter, r *http.Request) {
	token := c.session(r)
	if token == "" {
		c.askToSignIn(w, r)
		return
	}
	inner := r.Clone(bareContext{r.Context()})
	inner.Header = http.Header{"Authorization": {"Bearer " + token}, "Accept": {"text/event-stream"}}
	query := inner.URL.Query()
	if last := cmp.Or(r.Header.Get("Last-Event-ID"), query.Get("after")); last != "" {
		inner.Header.Set("Last-Event-ID", last) // the browser's own when it connects again
	}
	query.Del("after")
	inner.URL.Path, inner.URL.RawPath, inner.URL.RawQuery = "/v1/tail", "", query.Encode()
	inner.RequestURI = inner.URL.RequestURI()
	c.config.API.ServeHTTP(w, inner)
}
