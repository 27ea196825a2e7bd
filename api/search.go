package api

import (
	"context"
	"errors"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// searchTime bounds the time in which a list looks for events that an expression
// selects: what was found by then is a page, and the next goes on.
const searchTime = store.ListTime * 3 / 2

// searchBatch is how many events are looked at together.
const searchBatch = 200

// search is an expression that a list is filtered by. nil selects everything.
type search struct {
	api    *API
	filter *subscriptions.Filter
	ends   time.Time
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
	return &search{a, a.programs.Filter(text), time.Now().Add(searchTime)}, nil
}

// over reports whether the time is up.
func (s *search) over() bool { return s != nil && time.Now().After(s.ends) }

// left is the time that is left.
func (s *search) left() time.Duration { return time.Until(s.ends) }

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
