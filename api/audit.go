package api

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/rowcall/rowcall/store"
)

// remoteKey is the context's key of the address that a request came from.
type remoteKey struct{}

func remoteOf(ctx context.Context) string {
	remote, _ := ctx.Value(remoteKey{}).(string)
	return remote
}

// headerNote is the header of any request that changes something in which its
// caller says why; maxNote bounds it, in characters.
const (
	headerNote = "Rowcall-Note"
	maxNote    = 500
)

// noteKey is the context's key of a request's note.
type noteKey struct{}

func noteOf(ctx context.Context) string {
	note, _ := ctx.Value(noteKey{}).(string)
	return note
}

// takeNote reads why a change is made.
func takeNote(ctx huma.Context, next func(huma.Context)) {
	note := strings.TrimSpace(ctx.Header(headerNote))
	if !plainText(note) || utf8.RuneCountInString(note) > maxNote {
		refuse(ctx, newProblem(problemValidation, "", fieldError{"header." + headerNote, "want UTF-8 text without control characters, 500 of them at most"}))
		return
	}
	next(huma.WithValue(ctx, noteKey{}, note))
}

// describeNote has a route's description name the header.
func describeNote(op *huma.Operation) {
	op.Parameters = append(op.Parameters, &huma.Param{
		Name: headerNote, In: "header", Description: "Why, in words: it stands in the audit trail. UTF-8, 500 characters at most.",
		Schema: &huma.Schema{Type: huma.TypeString},
	})
}

// audited reports whether what a route does is recorded: all that is no reading,
// but events, which the log records, and a caller's own sessions.
func audited(op huma.Operation) bool {
	return op.Method != http.MethodGet && !slices.Contains([]string{"publish-events", "create-session", "delete-session"}, op.OperationID)
}

// change is a change that was made through the API.
type change struct {
	At     time.Time       `json:"at"`
	Actor  string          `json:"actor" doc:"Id of the key or person that made it; or configuration; or anonymous, of sign-ins that failed."`
	Remote string          `json:"remote" doc:"Address that the request came from."`
	Action string          `json:"action" doc:"operationId of the route." example:"patch-subscription"`
	Object string          `json:"object" doc:"What was changed." example:"subscription/sub_…"`
	Before json.RawMessage `json:"before,omitempty" doc:"Members that differ, as they were; without secrets."`
	After  json.RawMessage `json:"after,omitempty" doc:"The same, as they are since then."`
	Note   string          `json:"note,omitempty" doc:"Why, as the request's header Rowcall-Note said."`
}

type (
	auditInput struct {
		PageInput
		Actor  string    `query:"actor" doc:"Of this key (id)."`
		Action string    `query:"action" doc:"Exactly this operationId."`
		Object string    `query:"object" doc:"Of exactly this object."`
		Since  time.Time `query:"since" doc:"At or after this time."`
		Until  time.Time `query:"until" doc:"Before this time."`
	}
	auditOutput struct{ Body page[change] }
)

func (a *API) registerAudit() {
	handle(a, huma.Operation{
		OperationID: "list-changes", Method: http.MethodGet, Path: "/v1/audit", Tags: []string{"audit"},
		Summary:     "List changes that were made through the API, newest first",
		Description: "A change is recorded in its own transaction, for good: nothing changes or prunes these rows.",
	}, ScopeAdmin, a.listChanges)
}

func (a *API) listChanges(ctx context.Context, in *auditInput) (*auditOutput, error) {
	filters := joinFilters(in.Actor, in.Action, in.Object, stamp(in.Since), stamp(in.Until))
	position, err := openCursor("audit", filters, in.Cursor)
	if err != nil {
		return nil, err
	}
	at, err := splitNumbers(position, 1)
	if err != nil {
		return nil, err
	}
	found, err := a.store.Audit(ctx, store.ChangeFilter{
		Actor: in.Actor, Action: in.Action, Object: in.Object, Since: in.Since, Until: in.Until, Past: at[0],
	}, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &auditOutput{Body: page[change]{Items: []change{}}}
	for i, c := range found {
		if i == in.Limit {
			out.Body.NextCursor = sealCursor("audit", filters, joinNumbers(found[i-1].ID))
			break
		}
		out.Body.Items = append(out.Body.Items, change{
			At: c.At, Actor: c.Actor, Remote: c.Remote, Action: c.Action, Object: c.Object, Before: c.Before, After: c.After, Note: c.Note,
		})
	}
	return out, nil
}
