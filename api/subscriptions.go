package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// editTries is how often an edit without If-Match is tried again when somebody
// else edits at the same moment.
const editTries = 5

type (
	subscriptionsInput struct {
		PageInput
		Name  string              `query:"name" doc:"Exactly this name."`
		State subscriptions.State `query:"state" enum:"active,paused,disabled"`
	}
	subscriptionsOutput struct{ Body page[subscription] }

	createInput struct {
		RawBody []byte `contentType:"application/json"`
	}
	getInput struct {
		ID string `path:"id" doc:"sub_ and 26 letters and digits."`
	}
	patchInput struct {
		EditInput
		RawBody []byte `contentType:"application/merge-patch+json"`
	}
	subscriptionOutput struct {
		ETag string `header:"ETag" doc:"The version, in quotes."`
		Body subscription
	}
	createdOutput struct {
		Location string `header:"Location"`
		ETag     string `header:"ETag" doc:"The version, in quotes."`
		Body     subscription
	}
	emptyOutput struct{}
)

// EditInput is what every edit of a subscription takes. It is exported because
// the framework passes over what is not, when embedded.
type EditInput struct {
	ID      string `path:"id" doc:"sub_ and 26 letters and digits."`
	IfMatch string `header:"If-Match" doc:"The ETag that was read: the edit is refused (412) when the subscription has changed since."`
}

func (a *API) registerSubscriptions() {
	tags := []string{"subscriptions"}
	const base, one = "/v1/subscriptions", "/v1/subscriptions/{id}"
	handle(a, huma.Operation{
		OperationID: "list-subscriptions", Method: http.MethodGet, Path: base, Tags: tags,
		Summary: "List subscriptions, by id",
	}, ScopeRead, a.listSubscriptions)
	handle(a, huma.Operation{
		OperationID: "create-subscription", Method: http.MethodPost, Path: base, Tags: tags,
		Summary:       "Create a subscription",
		Description:   "The answer holds the signing secret, which is not shown again.",
		DefaultStatus: http.StatusCreated,
		RequestBody: a.body(typeOf[subscriptionInput](), "Input", map[string][]string{
			"SubscriptionInput": {"name", "events", "endpoint"}, "EndpointInput": {"url"},
		}, "application/json"),
	}, ScopeWrite, a.createSubscription)
	handle(a, huma.Operation{
		OperationID: "get-subscription", Method: http.MethodGet, Path: one, Tags: tags,
		Summary: "Get a subscription",
	}, ScopeRead, a.getSubscription)
	handle(a, huma.Operation{
		OperationID: "patch-subscription", Method: http.MethodPatch, Path: one, Tags: tags,
		Summary:     "Change a subscription, by JSON merge patch (RFC 7396)",
		Description: "null gives a member its default back.",
		RequestBody: a.body(typeOf[subscriptionPatch](), "Patch", nil, "application/merge-patch+json", "application/json"),
	}, ScopeWrite, a.patchSubscription)
	handle(a, huma.Operation{
		OperationID: "delete-subscription", Method: http.MethodDelete, Path: one, Tags: tags,
		Summary:     "Delete a subscription",
		Description: "Its cursor and deliveries go with it; its attempts stay until their retention. One that the configuration declares is not deleted (409).",
	}, ScopeWrite, a.deleteSubscription)
	handle(a, huma.Operation{
		OperationID: "pause-subscription", Method: http.MethodPost, Path: one + "/pause", Tags: tags,
		Summary:     "Hold a subscription's events",
		Description: "The cursor stands still and nothing is lost until it is resumed. Pausing a paused subscription changes nothing.",
	}, ScopeDeliver, a.setState(subscriptions.Paused))
	handle(a, huma.Operation{
		OperationID: "resume-subscription", Method: http.MethodPost, Path: one + "/resume", Tags: tags,
		Summary: "Deliver a subscription's events again",
	}, ScopeDeliver, a.setState(subscriptions.Active))
	a.registerEndpointHealth(tags, one)
	a.registerPreview(tags, base)
	rotation := a.body(typeOf[rotationInput](), "", nil, "application/json")
	rotation.Required = false
	handle(a, huma.Operation{
		OperationID: "rotate-secret", Method: http.MethodPost, Path: one + "/secret/rotate", Tags: tags,
		Summary: "Make a new signing secret",
		Description: "The answer holds it; it is not shown again. Deliveries are signed with it from now on, and for the time of " +
			"the overlap with the one before as well, newest first. While two are active, only a rotation with overlap \"0s\", " +
			"which ends both, is accepted.",
		RequestBody: rotation,
	}, ScopeWrite, a.rotateSecret)
}

func (a *API) listSubscriptions(ctx context.Context, in *subscriptionsInput) (*subscriptionsOutput, error) {
	filters := joinFilters(in.Name, string(in.State))
	after, err := openCursor("subscriptions", filters, in.Cursor)
	if err != nil {
		return nil, err
	}
	found, err := a.store.Subscriptions(ctx, store.SubscriptionFilter{
		Labels: restriction(ctx), Name: in.Name, State: in.State, After: subscriptions.ID(after),
	}, in.Limit+1)
	if err != nil {
		return nil, err
	}
	healths, err := a.healths(ctx, found...)
	if err != nil {
		return nil, err
	}
	out := &subscriptionsOutput{Body: page[subscription]{Items: []subscription{}}}
	var from origins
	for i, s := range found {
		if i == in.Limit {
			out.Body.NextCursor = sealCursor("subscriptions", filters, string(found[i-1].ID))
			break
		}
		shown := showSubscription(s, healths[s.ID])
		if shown.Warnings, err = a.warnings(ctx, &from, &s, healths[s.ID]); err != nil {
			return nil, err
		}
		out.Body.Items = append(out.Body.Items, shown)
	}
	return out, nil
}

func (a *API) createSubscription(ctx context.Context, in *createInput) (*createdOutput, error) {
	if err := checkJSON(in.RawBody); err != nil {
		return nil, err
	}
	spec, specErr := subscriptions.ParseSpec(in.RawBody, "start", "secret")
	warnings, specErr := a.judgeSpec(ctx, &spec, specErr, true)
	start, startErr := parseStart(in.RawBody)
	secret, secretErr := parseSecret(in.RawBody)
	if err := joinFields(specErr, startErr, secretErr, checkNotices(ctx, spec.Events)); err != nil {
		return nil, err
	}
	if err := staysSeen(ctx, spec.Labels); err != nil {
		return nil, err
	}
	if secret.IsZero() {
		secret = subscriptions.NewSigningSecret()
	}
	sub := subscriptions.Subscription{
		ID: subscriptions.NewID(), State: subscriptions.Active, Spec: spec, Secrets: []subscriptions.Secret{secret},
	}
	err := a.store.CreateSubscription(ctx, &sub, start)
	if errors.Is(err, store.ErrConflict) {
		return nil, nameTaken()
	}
	if err != nil {
		return nil, err
	}
	shown := answer(sub, store.EndpointHealth{})
	shown.Body.Secret, shown.Body.Warnings = secret.Reveal(), warnings
	return &createdOutput{Location: "/v1/subscriptions/" + string(sub.ID), ETag: shown.ETag, Body: shown.Body}, nil
}

func (a *API) getSubscription(ctx context.Context, in *getInput) (*subscriptionOutput, error) {
	sub, err := a.subscription(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return a.answer(ctx, sub)
}

func (a *API) patchSubscription(ctx context.Context, in *patchInput) (*subscriptionOutput, error) {
	if err := checkJSON(in.RawBody); err != nil {
		return nil, err
	}
	return a.edit(ctx, &in.EditInput, func(sub *subscriptions.Subscription) error {
		spec, err := sub.Patch(in.RawBody)
		before := sub.Spec
		// What other edits find of tables that have changed since is a warning.
		_, err = a.judgeSpec(ctx, &spec, err, !sameExpressions(&before, &spec))
		if err := joinFields(err, checkNotices(ctx, spec.Events)); err != nil {
			return err
		}
		if sub.ManagedBy != "" && spec.Name != before.Name {
			return newProblem(problemConflict, fmt.Sprintf("the subscription is declared in the configuration of rowcall (owner %q): the next start would make one "+
				"of the old name anew, and end this one; rename it after it was released, and in the file at once: %s", sub.ManagedBy, releaseAdvice(sub.ManagedBy)))
		}
		sub.Spec = spec
		return nil
	})
}

func (a *API) setState(state subscriptions.State) func(context.Context, *EditInput) (*subscriptionOutput, error) {
	return func(ctx context.Context, in *EditInput) (*subscriptionOutput, error) {
		return a.edit(ctx, in, func(sub *subscriptions.Subscription) error {
			if sub.State == state {
				return errUnchanged
			}
			sub.State, sub.StateReason = state, ""
			if state == subscriptions.Paused {
				sub.StateReason = "paused through the API by key " + caller(ctx)
			}
			return nil
		})
	}
}

func (a *API) deleteSubscription(ctx context.Context, in *EditInput) (*emptyOutput, error) {
	for try := 1; ; try++ {
		sub, err := a.subscription(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		if err := matchVersion(in.IfMatch, sub.Version); err != nil {
			return nil, err
		}
		if sub.ManagedBy != "" {
			return nil, newProblem(problemConflict, fmt.Sprintf("the subscription is declared in the configuration of rowcall (owner %q), and the next start "+
				"would make it anew: pause it, or delete it after it was released: %s", sub.ManagedBy, releaseAdvice(sub.ManagedBy)))
		}
		// What was changed meanwhile is looked at again: the key may no longer see it.
		err = a.store.DeleteSubscription(ctx, sub.ID, sub.Version)
		if !errors.Is(err, store.ErrConflict) {
			return nil, err
		}
		if try == editTries {
			return nil, editedAllTheTime()
		}
	}
}

// errUnchanged is an edit's word that there is nothing to save.
var errUnchanged = errors.New("unchanged")

// edit reads a subscription, changes it and saves it, where nobody else has
// saved it in between.
func (a *API) edit(ctx context.Context, in *EditInput, change func(*subscriptions.Subscription) error) (*subscriptionOutput, error) {
	for try := 1; ; try++ {
		sub, err := a.subscription(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		if err := matchVersion(in.IfMatch, sub.Version); err != nil {
			return nil, err
		}
		version, name := sub.Version, sub.Name
		if err := change(&sub); errors.Is(err, errUnchanged) {
			return a.answer(ctx, sub)
		} else if err != nil {
			return nil, err
		}
		if err := staysSeen(ctx, sub.Labels); err != nil {
			return nil, err
		}
		err = a.store.UpdateSubscription(ctx, &sub, version)
		if err == nil {
			return a.answer(ctx, sub)
		}
		if !errors.Is(err, store.ErrConflict) {
			return nil, err
		}
		now, err := a.subscription(ctx, in.ID)
		switch {
		case err != nil:
			return nil, err
		case now.Version == version && sub.Name != name:
			return nil, nameTaken()
		case in.IfMatch != "":
			return nil, preconditionFailed()
		case try == editTries:
			return nil, editedAllTheTime()
		}
	}
}

// subscription reads one; a text that cannot be an id is no subscription's.
func (a *API) subscription(ctx context.Context, text string) (subscriptions.Subscription, error) {
	id, err := subscriptions.ParseID(text)
	if err != nil {
		return subscriptions.Subscription{}, store.ErrNotFound
	}
	sub, err := a.store.Subscription(ctx, id)
	if err == nil && !sees(ctx, sub.Labels) {
		return subscriptions.Subscription{}, store.ErrNotFound
	}
	return sub, err
}

func (a *API) answer(ctx context.Context, sub subscriptions.Subscription) (*subscriptionOutput, error) {
	healths, err := a.healths(ctx, sub)
	if err != nil {
		return nil, err
	}
	out := answer(sub, healths[sub.ID])
	out.Body.Warnings, err = a.warnings(ctx, new(origins), &sub, healths[sub.ID])
	return out, err
}

func answer(sub subscriptions.Subscription, health store.EndpointHealth) *subscriptionOutput {
	return &subscriptionOutput{ETag: strconv.Quote(strconv.FormatInt(sub.Version, 10)), Body: showSubscription(sub, health)}
}

// releaseAdvice says how a declared subscription becomes nobody's.
func releaseAdvice(owner string) string {
	return fmt.Sprintf("take it out of the file and start rowcall again; where no file declares for that owner any more, "+
		"start once with one that says owner: %s and subscriptions: []", strconv.Quote(owner))
}

func nameTaken() *problem {
	return newProblem(problemConflict, "another subscription has this name", fieldError{"body.name", "taken"})
}

func editedAllTheTime() *problem {
	return newProblem(problemConflict, "others edit this subscription all the time: try again")
}

func preconditionFailed() *problem {
	return newProblem(problemPrecondition, "the subscription has changed since it was read: read it again")
}

// matchVersion holds a version against If-Match (RFC 9110, 13.1.1): absent, *,
// or a list of strong entity tags.
func matchVersion(header string, version int64) error {
	if header == "" || header == "*" {
		return nil
	}
	want := strconv.Quote(strconv.FormatInt(version, 10))
	tags := strings.Split(header, ",")
	for i, tag := range tags {
		tags[i] = strings.TrimSpace(tag)
		opaque := strings.TrimPrefix(tags[i], "W/")
		if len(opaque) < 2 || opaque[0] != '"' || strings.IndexByte(opaque[1:], '"') != len(opaque)-2 {
			return newProblem(problemMalformed, `If-Match must be * or an ETag in quotes, such as "3"`)
		}
	}
	if slices.Contains(tags, want) {
		return nil
	}
	return preconditionFailed()
}

// joinFields makes one error of several, so that all faulty fields are named at
// once; an error of another kind goes first.
func joinFields(errs ...error) error {
	var all subscriptions.FieldErrors
	for _, err := range errs {
		if fields, ok := errors.AsType[subscriptions.FieldErrors](err); ok {
			all = append(all, fields...)
		} else if err != nil {
			return err
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// parseStart reads the member start of a body; ParseSpec sees to it that there
// is one at most, and that its name is written so.
func parseStart(body []byte) (store.Start, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return store.Start{}, nil // not an object: ParseSpec says so
	}
	raw := members["start"]
	if raw == nil || string(raw) == "null" {
		return store.Start{Now: true}, nil
	}
	fault := subscriptions.FieldErrors{{
		Field:   "start",
		Message: `must be "now", "earliest", an offset from 1 up, or a time such as "2026-11-20T12:00:00Z"`,
	}}
	if raw[0] != '"' {
		offset, err := strconv.ParseInt(string(raw), 10, 64)
		if err != nil || offset < 1 {
			return store.Start{}, fault
		}
		return store.Start{Offset: store.Offset(offset)}, nil
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return store.Start{}, fault
	}
	switch text {
	case "now":
		return store.Start{Now: true}, nil
	case "earliest":
		return store.Start{Earliest: true}, nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || at.UnixMicro() <= 0 {
		return store.Start{}, fault
	}
	return store.Start{Time: at.UnixMicro()}, nil
}
