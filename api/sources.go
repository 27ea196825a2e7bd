package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/rowcall/rowcall/store"
)

// source is a watched database.
type source struct {
	Name        string            `json:"name"`
	Kind        string            `json:"kind" example:"postgres"`
	State       store.SourceState `json:"state" enum:"starting,streaming,waiting,gap,refused"`
	Reason      string            `json:"reason" doc:"What is wrong; empty when nothing is."`
	Hint        string            `json:"hint" doc:"What to do about it."`
	Generation  int32             `json:"generation" doc:"Stands in the id of its events; bumped when the database is another one."`
	SystemID    string            `json:"system_id"`
	Timeline    int32             `json:"timeline"`
	Slot        string            `json:"slot"`
	Publication string            `json:"publication"`
	HeartbeatAt *time.Time        `json:"heartbeat_at" doc:"When a heartbeat last came back through the slot."`
	LagBytes    int64             `json:"lag_bytes" doc:"WAL that the slot holds back."`
	WALStatus   string            `json:"wal_status"`
	UpdatedAt   time.Time         `json:"updated_at"`
	Checkpoint  checkpoint        `json:"checkpoint"`
	Relations   []relation        `json:"relations"`
	Gaps        []gap             `json:"gaps" doc:"Those not accepted, oldest first."`
	Accepted    int               `json:"gaps_accepted" doc:"How many were: what they stand for may be lost for good."`
}

// checkpoint is what is durable in the log.
type checkpoint struct {
	LSN         string     `json:"lsn" doc:"Everything up to here is in the log."`
	CommittedAt *time.Time `json:"committed_at"`
}

type relation struct {
	Schema   string   `json:"schema"`
	Name     string   `json:"name"`
	Identity string   `json:"identity" enum:"default,index,full,nothing" doc:"Replica identity."`
	Key      []string `json:"key" doc:"Columns of the key."`
	Captured bool     `json:"captured"`
	Reason   string   `json:"reason,omitempty" doc:"Why it is left out."`
	Remedy   string   `json:"remedy,omitempty" doc:"SQL that would let it in."`
}

type gap struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
	From   string    `json:"from" doc:"LSN."`
	To     string    `json:"to" doc:"LSN."`
	Marker string    `json:"marker" doc:"Offset at which deliveries wait until it is accepted."`
}

func showSource(s store.Source) source {
	out := source{
		Name: s.Name, Kind: s.Kind, State: s.State, Reason: s.Reason, Hint: s.Hint, Generation: s.Generation,
		SystemID: s.SystemID, Timeline: s.Timeline, Slot: s.Slot, Publication: s.Publication,
		HeartbeatAt: optionalTime(s.HeartbeatAt), LagBytes: s.LagBytes, WALStatus: s.WALStatus, UpdatedAt: s.UpdatedAt.UTC(),
		Checkpoint: checkpoint{LSN: s.Checkpoint.End.String(), CommittedAt: optionalTime(s.Checkpoint.CommitAt)},
		Relations:  []relation{}, Gaps: []gap{}, Accepted: s.GapsAccepted,
	}
	for _, r := range s.Relations {
		key := r.Key
		if key == nil {
			key = []string{}
		}
		out.Relations = append(out.Relations, relation{
			Schema: r.Schema, Name: r.Name, Identity: r.Identity, Key: key, Captured: r.Captured, Reason: r.Reason, Remedy: r.Remedy,
		})
	}
	for _, g := range s.Gaps {
		out.Gaps = append(out.Gaps, gap{
			At: g.At.UTC(), Reason: g.Reason, From: g.From.String(), To: g.To.String(), Marker: g.Marker.String(),
		})
	}
	return out
}

type (
	sourcesInput  struct{}
	sourcesOutput struct{ Body page[source] }
	sourcePath    struct {
		Name string `path:"name"`
	}
	sourceOutput struct{ Body source }
	accepted     struct {
		Accepted int `json:"accepted" doc:"Gaps that were accepted."`
	}
	acceptedOutput struct{ Body accepted }
)

func (a *API) registerSources() {
	tags := []string{"sources"}
	handle(a, huma.Operation{
		OperationID: "list-sources", Method: http.MethodGet, Path: "/v1/sources", Tags: tags,
		Summary: "List sources, by name",
	}, ScopeRead, a.listSources)
	handle(a, huma.Operation{
		OperationID: "get-source", Method: http.MethodGet, Path: "/v1/sources/{name}", Tags: tags,
		Summary: "Get a source",
	}, ScopeRead, a.getSource)
	handle(a, huma.Operation{
		OperationID: "accept-gap", Method: http.MethodPost, Path: "/v1/sources/{name}/accept-gap", Tags: tags,
		Summary:     "Accept that changes of a source may be lost",
		Description: "Accepts every open gap of the source: deliveries that wait at its marker go on.",
	}, ScopeAdmin, a.acceptGap)
}

func (a *API) listSources(ctx context.Context, _ *sourcesInput) (*sourcesOutput, error) {
	found, err := a.store.Sources(ctx)
	if err != nil {
		return nil, err
	}
	out := &sourcesOutput{Body: page[source]{Items: []source{}}}
	for _, s := range found {
		out.Body.Items = append(out.Body.Items, showSource(s))
	}
	return out, nil
}

func (a *API) getSource(ctx context.Context, in *sourcePath) (*sourceOutput, error) {
	s, err := a.store.Source(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	return &sourceOutput{Body: showSource(s)}, nil
}

func (a *API) acceptGap(ctx context.Context, in *sourcePath) (*acceptedOutput, error) {
	n, err := a.store.AcceptGaps(ctx, in.Name, caller(ctx))
	if err != nil {
		return nil, err
	}
	return &acceptedOutput{Body: accepted{Accepted: n}}, nil
}
