package main

import (
	"strings"
	"testing"

	"github.com/rowcall/rowcall/api/client"
)

func TestATextIsOneWordOfAShell(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"paid-orders": "paid-orders", "a b": "'a b'", "it's": `'it'\''s'`, "": "''", "$x": "'$x'"} {
		if got := shellWord(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestALongNameLeavesRoomInATable(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ä", 41)
	for text, want := range map[string]string{"": "", "paid": "paid", long[:80]: long[:80], long: long[:78] + "…"} {
		if got := short(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestWhoDeletesASubscriptionIsToldWhatItIsOwed(t *testing.T) {
	t.Parallel()
	for want, balance := range map[string]client.Balance{
		"no events":           {Matched: 7, Delivered: 5, Discarded: 2},
		"1 event (1 blocked)": {Matched: 1, Blocked: 1},
		"29 events (20 waiting in the log, 2 retrying, 1 blocked, 4 dead letters, 2 in dead ranges)": {
			Matched: 40, Delivered: 11, Waiting: 20, Retrying: 2, Blocked: 1, Dead: 4, DeadRanges: 2,
		},
	} {
		if got := owedText(balance); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
