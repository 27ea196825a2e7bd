package web

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rowcall/rowcall/api/client"
)

// standing is what the overview's sentences are made of.
type standing struct {
	Now       time.Time
	Endpoints client.BoardTotals
	Worst     []client.BoardRow // the first page, worst first
	Sources   []client.Source
	Balance   client.Balance
}

// total is how many subscriptions there are.
func (s *standing) total() int {
	n := 0
	for _, of := range s.Endpoints.Conditions {
		n += of
	}
	return n
}

// stops are the conditions in which nothing flows. What is paused, or outside its
// window, is as a person wants it.
func stops() []string { return []string{"disabled", "faulty", "parked", "probing"} }

// stopped are the endpoints to which nothing flows.
func (s *standing) stopped() (n int, names []string) {
	for _, condition := range stops() {
		n += s.Endpoints.Conditions[condition]
	}
	for _, row := range s.Worst {
		if slices.Contains(stops(), row.Condition) {
			names = append(names, row.Name)
		}
	}
	return n, names
}

// answer says whether everything flows: the page's title.
func (s *standing) answer() string {
	for _, source := range s.Sources {
		switch source.State {
		case "gap":
			return fmt.Sprintf("Changes of %s may be lost.", source.Name)
		case "refused":
			return fmt.Sprintf("Nothing is captured from %s until somebody acts.", source.Name)
		}
	}
	for _, source := range s.Sources {
		if source.State == "waiting" {
			return fmt.Sprintf("Nothing is captured from %s at the moment.", source.Name)
		}
	}
	total := s.total()
	if total == 0 {
		return "Nothing is delivered yet: there is no subscription."
	}
	stopped, names := s.stopped()
	running := total - stopped - s.Endpoints.Conditions["paused"] - s.Endpoints.Conditions["closed"]
	switch {
	case stopped == 0 && running == 0:
		return "Everything is paused or outside its window."
	case stopped == 0 && s.Endpoints.Dead > 0:
		return fmt.Sprintf("Everything flows; %s undelivered.", plural(s.Endpoints.Dead, "event ended", "events ended"))
	case stopped == 0:
		return "Everything flows."
	case running == 0:
		return "Nothing flows: " + counted(stopped, total, names) + " not there."
	default:
		return "Everything flows, except to " + exceptions(stopped, total, names) + "."
	}
}

func counted(stopped, total int, names []string) string {
	switch {
	case total == 1 && len(names) == 1:
		return names[0] + " is"
	case stopped == total:
		return fmt.Sprintf("all %d endpoints are", total)
	default:
		return fmt.Sprintf("%d of %d endpoints are", stopped, total)
	}
}

func exceptions(stopped, total int, names []string) string {
	switch {
	case stopped == 1 && len(names) >= 1:
		return names[0]
	case stopped == 2 && len(names) >= 2:
		return names[0] + " and " + names[1]
	default:
		return fmt.Sprintf("%d of %d endpoints", stopped, total)
	}
}

// assurance says what is safe: the line below the title.
func (s *standing) assurance() string {
	var parts []string
	if n := s.Endpoints.Held; n > 0 {
		text := plural(n, "event is", "events are") + " held in order"
		if s.Endpoints.HeldBytes > 0 {
			text += " (" + size(s.Endpoints.HeldBytes) + ")"
		}
		parts = append(parts, text)
	}
	if n := s.Endpoints.Retrying; n > 0 {
		parts = append(parts, plural(n, "event is", "events are")+" being retried")
	}
	if n := s.Endpoints.Dead; n > 0 {
		parts = append(parts, plural(n, "dead letter keeps its payload", "dead letters keep their payloads"))
	}
	if n := s.Balance.Dropped; n > 0 {
		parts = append(parts, plural(n, "event was", "events were")+" dropped by a hold limit or the log's bound")
	}
	if n := s.Balance.Expired; n > 0 {
		parts = append(parts, plural(n, "dead letter has", "dead letters have")+" expired")
	}
	text := sentence(upperFirst(strings.Join(parts, ", ")))
	if s.safe() {
		text += " Nothing is lost."
	}
	return strings.TrimSpace(text)
}

// safe reports whether it is known that nothing is lost: no gap, also none that
// was accepted, and every event that is wanted is accounted for, none of them as
// dropped or expired. A key that sees no sources does not know.
func (s *standing) safe() bool {
	gaps := slices.ContainsFunc(s.Sources, func(source client.Source) bool { return source.State == "gap" || source.GapsAccepted > 0 })
	return len(s.Sources) > 0 && !gaps && s.Balance.Dropped+s.Balance.Expired == 0 && s.Balance.Unaccounted == 0
}

// need is something that a person should look at.
type need struct {
	State      state
	Subject    string
	Link       string
	Text, More string
	Action     string // a page that confirms; empty: only to be looked at
	ActionText string
}

// needs lists what a person should look at, worst first.
func (s *standing) needs() []need {
	var list []need
	for _, source := range s.Sources {
		link := "/sources/" + source.Name
		more := strings.TrimSpace(sentence(source.Reason) + " " + sentence(source.Hint))
		switch source.State {
		case "gap":
			list = append(list, need{sourceState("gap"), source.Name, link, "may have lost changes; deliveries wait at the gap.", more, link, "Decide"})
		case "refused":
			list = append(list, need{sourceState("refused"), source.Name, link, "cannot be captured.", more, link, "Look"})
		case "waiting":
			list = append(list, need{sourceState("waiting"), source.Name, link, "cannot be reached; it is tried again by itself.", more, link, "Look"})
		}
	}
	for _, r := range s.Worst {
		link := "/subscriptions/" + r.Subscription
		switch r.Condition {
		case "disabled":
			list = append(list, need{conditionState("disabled"), r.Name, link, "was disabled; its events are held.", sentence(r.StateReason), link + "/resume", "Resume…"})
		case "faulty":
			text, more := "cannot be sent to as it is set up; its events are held.", r.Reason
			if r.HoldError != "" {
				text, more = "has a filter or transform that fails on most events; they are held until it is edited.", r.HoldError
			}
			list = append(list, need{conditionState("faulty"), r.Name, link, text, sentence(more), link + "/edit", "Edit"})
		case "parked", "probing":
			text := reasonText(r.Reason)
			if r.Since != nil {
				text += "; parked for " + words(s.Now.Sub(*r.Since))
			}
			more := plural(r.Waiting.Events, "event", "events") + " held in order."
			if r.NextProbeAt != nil {
				more += " Next probe " + relative(*r.NextProbeAt, s.Now) + "."
			}
			list = append(list, need{conditionState(r.Condition), r.Name, link, text + ".", more, link + "/probe", "Probe…"})
		}
		if r.Dead > 0 {
			failed := "/failed?subscription=" + r.Subscription
			list = append(list, need{
				deliveryState("dead"), r.Name, link, plural(r.Dead, "event ended", "events ended") + " undelivered.",
				"Their payloads are kept; retry them once the cause is mended, or discard them.", failed, "Look",
			})
		}
	}
	rank := map[string]int{"bad": 0, "warn": 1, "hold": 2}
	slices.SortStableFunc(list, func(a, b need) int { return rank[a.State.Kind] - rank[b.State.Kind] })
	return list
}

// upperFirst begins a sentence.
func upperFirst(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// sentence ends a text with a stop, where there is one.
func sentence(text string) string {
	text = strings.TrimSpace(text)
	if text == "" || strings.ContainsAny(text[len(text)-1:], ".!?") {
		return text
	}
	return text + "."
}
