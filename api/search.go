package api

import (
	"context"
	"errors"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// searchBatch is how many events are looked at together.
const searchBatch = 200

// search is an expression that a list is filtered by. nil selects everything.
type search struct {
	api    *API
	filter *subscriptions.Filter
}

// newSearch reads query.filter; nil where there is none.
func (a *API) newSearch(text string) (*search, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // nil selects everything
	}
	_, err := a.programs.Check(&subscriptions.Spec{Events: []string{"**"}, Filter: &text}, nil)
	if fields, ok := errors.AsType[subscriptions.FieldErrors](err); ok {
		return nil, invalid("query.filter", fields[0].Message)
	}
	if err != nil {
		return nil, err
	}
	return &search{a, a.programs.Filter(text)}, nil
}

// selects reports whether an event is looked for. One that the expression fails
// on, as for lack of a member, is not.
func (s *search) selects(ctx context.Context, e *store.Event) (bool, error) {
	if s == nil {
		return true, nil
	}
	if e == nil {
		return false, nil
	}
	table, err := s.api.store.TableTypes(ctx, e.Relation)
	if err != nil {
		return false, err
	}
	matched, err := s.filter.Match(ctx, subscriptions.Decode(subscriptions.Attributes{
		Type: e.Type, Subject: e.SubjectText(), Source: e.Source, Time: e.CommittedAt(), Key: e.Key,
	}, e.Data, table))
	if _, failed := errors.AsType[*subscriptions.EvalError](err); failed {
		return false, nil
	}
	return matched, err
}
