package api

import "github.com/rowcall/rowcall/store"

// balance accounts for every event that a subscription, or all of them, want.
type balance struct {
	Matched     int64 `json:"matched" doc:"Events of its types since it was made, as the log counts them: the sum of the others."`
	Delivered   int64 `json:"delivered" doc:"Acknowledged, each once. Deliveries of replays are counted by these."`
	Waiting     int64 `json:"waiting" doc:"In the log: not yet had, or behind others of a key that has very many."`
	Retrying    int64 `json:"retrying"`
	Blocked     int64 `json:"blocked" doc:"Behind a retried event of their key, or until the subscription is edited."`
	Dead        int64 `json:"dead" doc:"Dead letters."`
	DeadRanges  int64 `json:"dead_ranges" doc:"Events of dead ranges."`
	Filtered    int64 `json:"filtered" doc:"Left out by its filter."`
	Discarded   int64 `json:"discarded" doc:"Given up by a person."`
	Dropped     int64 `json:"dropped" doc:"Given up at its hold_limit, or at the log's bound."`
	Compacted   int64 `json:"compacted" doc:"Not sent, because a newer one of their key was."`
	Expired     int64 `json:"expired" doc:"Dead letters and dead ranges that reached their retention."`
	Unaccounted int64 `json:"unaccounted" doc:"What is missing, or below 0 too much: 0, or rowcall has a fault. With a filter it is counted as filtered."`
}

func showBalance(b store.Balance) balance {
	return balance{
		Matched: b.Matched, Delivered: b.Delivered, Waiting: b.Waiting, Retrying: b.Retrying, Blocked: b.Blocked, Dead: b.Dead,
		DeadRanges: b.DeadRanges, Filtered: b.Filtered, Discarded: b.Discarded, Dropped: b.Dropped, Compacted: b.Compacted,
		Expired: b.Expired, Unaccounted: b.Unaccounted,
	}
}
