package web

import (
	"cmp"
	"net/http"

	"github.com/rowcall/rowcall/api/client"
)

func httpStatus(status int) string { return http.StatusText(status) }

// state is a word with the mark and colour that go with it. Kinds: ok; warn, what
// rowcall is handling; hold, events are safe and in order; bad, a person must
// decide; idle.
type state struct{ Kind, Word string }

// conditions are those that a list can be filtered by, worst first.
func conditions() []string {
	return []string{"disabled", "faulty", "parked", "probing", "gap", "recovering", "failing", "paused", "closed", "healthy"}
}

func conditionState(condition string) state {
	kinds := map[string]string{
		"healthy": "ok", "failing": "warn", "recovering": "warn", "probing": "hold", "parked": "hold", "gap": "hold", "disabled": "bad", "faulty": "bad",
	}
	word := condition
	switch condition {
	case "closed":
		word = "window closed"
	case "gap":
		word = "at a gap"
	}
	return state{cmp.Or(kinds[condition], "idle"), word}
}

func deliveryState(of string) state {
	kinds := map[string]string{"retrying": "warn", "blocked": "hold", "dead": "bad"}
	return state{cmp.Or(kinds[of], "idle"), of}
}

func sourceState(of string) state {
	kinds := map[string]string{"streaming": "ok", "starting": "idle", "waiting": "warn", "gap": "bad", "refused": "bad"}
	return state{cmp.Or(kinds[of], "idle"), of}
}

func jobState(of string) state {
	kinds := map[string]string{"running": "warn", "paused": "idle", "done": "ok", "cancelled": "idle", "failed": "bad"}
	return state{cmp.Or(kinds[of], "idle"), of}
}

// triedState is what a filter says of an event.
func triedState(p client.Previewed) state {
	switch {
	case p.Matched == nil || len(p.Errors) > 0:
		return state{"bad", "fails"}
	case *p.Matched:
		return state{"ok", "yes"}
	default:
		return state{"idle", "no"}
	}
}

// outcomes are those that a list can be filtered by.
func outcomes() []string { return []string{"delivered", "failed", "blocked", "unknown"} }

func outcomeState(of string) state {
	kinds := map[string]string{"delivered": "ok", "failed": "warn", "blocked": "bad"}
	return state{cmp.Or(kinds[of], "idle"), of}
}

// reasonText says a reason as a sentence goes on: "orders-to-billing …".
func reasonText(reason string) string {
	texts := map[string]string{
		"rejected": "refused the event", "unauthorized": "did not accept our credentials", "not_found": "has nothing at this address",
		"throttled": "asked us to slow down", "unavailable": "said it is unavailable", "server_error": "failed inside",
		"client_error": "did not take the request", "gone": "is gone for good", "redirect": "redirected, which is not followed",
		"refused": "refused the connection", "reset": "cut the connection", "dns": "has a name that does not resolve",
		"tls": "could not agree on TLS", "timeout": "did not answer in time", "too_large": "answered with too much",
		"protocol": "did not speak HTTP", "blocked": "is at an address that may not be called", "local_resource": "was not tried: out of sockets here",
		"unknown": "may have got it: rowcall ended before it knew", "filter_error": "has a filter that fails on the event",
		"transform_error": "has a transform that fails on the event",
		"hold_limit_age":  "was down for longer than events are held", "hold_limit_bytes": "was down for more than is held",
		"log_full": "was down until the log was full",
	}
	return cmp.Or(texts[reason], reason)
}
