package web

import (
	"testing"

	"github.com/rowcall/rowcall/api/client"
)

func TestASubscriptionsPageSaysHowItStandsAndWhatToDo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		row         client.BoardRow
		limit       client.HoldLimit
		title, lead string
	}{
		{client.BoardRow{Condition: "healthy"}, client.HoldLimit{}, "mail is delivered to.", ""},
		{
			client.BoardRow{Condition: "healthy", Dead: 1},
			client.HoldLimit{},
			"mail is delivered to; 1 event ended undelivered.",
			"1 event that ended undelivered keeps its payload: see why below, mend it, and retry it.",
		},
		{
			client.BoardRow{Condition: "parked", Reason: "refused"},
			client.HoldLimit{Age: "30d"},
			"mail refused the connection.",
			"Nothing is lost: its events are held, in order, for up to 30d. It is asked again by itself, and they go out when it answers; once it is mended, probe it to go on at once.",
		},
		{
			client.BoardRow{Condition: "paused"},
			client.HoldLimit{Age: "30d", Bytes: new(int64(1 << 30))},
			"mail is paused.",
			"Nothing is lost: its events are held, in order, for up to 30d, up to 1.0 GiB. Resume it to deliver them.",
		},
		{
			client.BoardRow{Condition: "failing", Dead: 2},
			client.HoldLimit{},
			"Some events of mail are being retried.",
			"What failed is tried again by itself, in order per key; all else goes on. 2 events that ended undelivered keep their payloads: see why below, mend it, and retry them.",
		},
		{
			client.BoardRow{Condition: "faulty", HoldError: "filter: no such key"},
			client.HoldLimit{},
			"mail has a filter or transform that fails.",
			"Nothing is lost: its events are held, in order. Edit it to go on.",
		},
		{
			client.BoardRow{Condition: "closed"},
			client.HoldLimit{},
			"mail is outside its window.",
			"Nothing is lost: its events are held, in order. They go out when its window opens.",
		},
	} {
		view := subscriptionView{Row: c.row}
		view.Name, view.Outage.HoldLimit = "mail", c.limit
		if title, lead := subscriptionTitle(&view), subscriptionLead(&view); title != c.title || lead != c.lead {
			t.Errorf("%s, %d dead: %q, %q", c.row.Condition, c.row.Dead, title, lead)
		}
	}
	view := subscriptionView{Row: client.BoardRow{Condition: "paused"}, Lost: 3}
	if got, want := subscriptionLead(&view), "Its events are held, in order. Resume it to deliver them."; got != want {
		t.Errorf("where some were dropped: %q", got)
	}
	for state, want := range map[string]string{
		"streaming": "main is streaming.", "gap": "main may have lost changes.", "refused": "main cannot be captured.",
		"waiting": "main cannot be reached.", "starting": "main is starting.", "new": "main: new",
	} {
		if got := sourceTitle(&client.Source{Name: "main", State: state}); got != want {
			t.Errorf("%s: %q", state, got)
		}
	}
}
