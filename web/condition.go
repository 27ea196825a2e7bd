package web

import (
	"cmp"

	"github.com/rowcall/rowcall/api/client"
)

// subscriptionTitle says how it stands.
func subscriptionTitle(view *subscriptionView) string {
	switch view.Row.Condition {
	case "healthy":
		if n := view.Row.Dead; n > 0 {
			return view.Name + " is delivered to; " + plural(n, "event", "events") + " ended undelivered."
		}
		return view.Name + " is delivered to."
	case "failing":
		return "Some events of " + view.Name + " are being retried."
	case "recovering":
		return view.Name + " answers again and is catching up."
	case "parked", "probing":
		return view.Name + " " + reasonText(view.Row.Reason) + "."
	case "faulty":
		if view.Row.HoldError != "" {
			return view.Name + " has a filter or transform that fails."
		}
		return view.Name + " cannot be sent to as it is set up."
	case "gap":
		return view.Name + " waits at a gap."
	case "closed":
		return view.Name + " is outside its window."
	case "paused":
		return view.Name + " is paused."
	case "disabled":
		return view.Name + " was disabled."
	default:
		return view.Name
	}
}

// subscriptionLead says what is safe, what happens by itself and what to do: the line
// below the title.
func subscriptionLead(view *subscriptionView) string {
	text, held := "", "Its events are held, in order"
	if view.Lost == 0 {
		held = "Nothing is lost: its events are held, in order"
	}
	held += heldFor(&view.Outage.HoldLimit) + "."
	switch view.Row.Condition {
	case "parked", "probing":
		text = held + " It is asked again by itself, and they go out when it answers; once it is mended, probe it to go on at once."
	case "disabled":
		text = held + " Resume it once it takes them again."
	case "faulty":
		text = held + " Edit it to go on."
	case "paused":
		text = held + " Resume it to deliver them."
	case "gap":
		text = "Its events are kept, in order; no limit takes any. They go out once a person accepts the gap of the source."
	case "closed":
		text = held + " They go out when its window opens."
	case "recovering":
		text = "What was held goes out first, in order, the faster the better it takes them."
	case "failing":
		text = "What failed is tried again by itself, in order per key; all else goes on."
	}
	if n := view.Row.Dead; n > 0 {
		if text != "" {
			text += " "
		}
		text += plural(n, "event that ended undelivered keeps its payload: see why below, mend it, and retry it.",
			"events that ended undelivered keep their payloads: see why below, mend it, and retry them.")
	}
	return text
}

// heldFor says for how long, or how much, an endpoint's events are held.
func heldFor(limit *client.HoldLimit) string {
	text := ""
	if limit.Age != "" {
		text = ", for up to " + limit.Age
	}
	if limit.Bytes != nil {
		text += ", up to " + size(*limit.Bytes)
	}
	return text
}

// sourceTitle says how a source stands.
func sourceTitle(s *client.Source) string {
	texts := map[string]string{
		"streaming": " is streaming.", "starting": " is starting.", "waiting": " cannot be reached.",
		"gap": " may have lost changes.", "refused": " cannot be captured.",
	}
	return s.Name + cmp.Or(texts[s.State], ": "+s.State)
}
