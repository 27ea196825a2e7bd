package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// logUsage is what the log weighs, and who keeps it.
type logUsage struct {
	Bytes     int64      `json:"bytes" doc:"On disk, indexes and the events of dead ranges included."`
	MaxBytes  int64      `json:"max_bytes" doc:"ROWCALL_LOG_MAX_BYTES. At it the oldest goes: delivered events, then dead ranges, then what the lane furthest behind holds."`
	Percent   int        `json:"percent" doc:"Of max_bytes."`
	Oldest    string     `json:"oldest" pattern:"^[0-9]{20}$" doc:"Offset of the oldest event."`
	OldestAt  *time.Time `json:"oldest_at" doc:"When it was committed; null: the log is empty."`
	Head      string     `json:"head" pattern:"^[0-9]{20}$" doc:"Offset that the next event gets."`
	Retention string     `json:"retention" doc:"How long delivered events stay, while there is room."`
	Pins      []logPin   `json:"pins" doc:"The 20 subscriptions furthest behind, the worst first: retention keeps what they have not passed."`
}

type logPin struct {
	Subscription subscriptions.ID `json:"subscription"`
	Name         string           `json:"name"`
	State        string           `json:"state" enum:"active,paused,disabled"`
	Health       string           `json:"health" enum:"healthy,parked,probing,recovering"`
	AtGap        bool             `json:"at_gap" doc:"It waits at a gap, until a person accepts that: nothing else of it can go."`
	Cursor       string           `json:"cursor" pattern:"^[0-9]{20}$"`
	OldestAt     *time.Time       `json:"oldest_at" doc:"Commit time of the oldest event that it owes; null: it owes none."`
	Events       int64            `json:"events" doc:"That wait, at most: what its filter leaves out counts."`
	Bytes        int64            `json:"bytes" doc:"Of their data."`
	Pinned       int64            `json:"pinned_bytes" doc:"Of the log on disk from its cursor on."`
}

const maxPins = 20

func (a *API) registerLog() {
	handle(a, huma.Operation{
		OperationID: "get-log", Method: http.MethodGet, Path: "/v1/log", Tags: []string{"events"},
		Summary: "Get what the log weighs, and which subscriptions keep it",
	}, ScopeRead, a.getLog)
}

func (a *API) getLog(ctx context.Context, _ *struct{}) (*struct{ Body logUsage }, error) {
	u, err := a.store.LogUsage(ctx, maxPins)
	if err != nil {
		return nil, err
	}
	out := &struct{ Body logUsage }{logUsage{
		Bytes: u.Bytes, MaxBytes: u.MaxBytes, Percent: int(float64(u.Bytes) / float64(u.MaxBytes) * 100), Oldest: u.Oldest.String(),
		OldestAt: optionalTime(u.OldestAt), Head: u.Head.String(), Retention: subscriptions.Duration(u.Retention).String(), Pins: []logPin{},
	}}
	ids := make([]subscriptions.ID, len(u.Pins))
	for i, p := range u.Pins {
		ids[i] = p.Subscription
	}
	summaries := map[subscriptions.ID]store.Summary{}
	if len(ids) > 0 {
		found, err := a.store.Summaries(ctx, ids...)
		if err != nil {
			return nil, err
		}
		for _, s := range found {
			summaries[s.ID] = s
		}
	}
	now := time.Now()
	for _, p := range u.Pins {
		sub, ok := summaries[p.Subscription]
		if !ok {
			continue // deleted meanwhile
		}
		pin := logPin{
			Subscription: p.Subscription, Name: sub.Name, State: string(sub.State), Health: healthShown(p.Health, now),
			AtGap: !p.GapSince.IsZero(), Cursor: p.Cursor.String(), Events: p.Waiting.Events, Bytes: p.Waiting.Bytes, Pinned: p.Pinned,
		}
		if p.OldestAt != 0 {
			pin.OldestAt = new(time.UnixMicro(p.OldestAt).UTC())
		}
		out.Body.Pins = append(out.Body.Pins, pin)
	}
	return out, nil
}
