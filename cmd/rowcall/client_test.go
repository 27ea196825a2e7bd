package main

import (
	"testing"

	"github.com/rowcall/rowcall/api/client"
)

func TestWhoDeletesASubscriptionIsToldWhatItIsOwed(t *testing.T) {
	t.Parallel()
	for want, balance := range map[string]client.Balance{
		"no event that it is owed":           {Matched: 7, Delivered: 5, Discarded: 2},
		"1 event that it is owed: 1 blocked": {Matched: 1, Blocked: 1},
		"29 events that it is owed: 20 waiting in the log, 2 retrying, 1 blocked, 4 dead letters, 2 in dead ranges": {
			Matched: 40, Delivered: 11, Waiting: 20, Retrying: 2, Blocked: 1, Dead: 4, DeadRanges: 2,
		},
	} {
		if got := owedText(balance); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
