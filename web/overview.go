package web

import (
	"errors"

	"github.com/rowcall/rowcall/api/client"
)

// term is a member of the balance.
type term struct {
	State  state
	Count  int64
	Bound  bool // an upper bound: shown as ≤
	X, Wid float64
}

type overviewView struct {
	Assurance string
	Open      int64
	Terms     []term
	Needs     []need
	More      int // endpoints that need something and are not listed
	Sources   []sourceRow
	Total     int
	MayWrite  bool
	NoSources bool
}

// worstShown is how many endpoints the overview looks at for what needs a person.
const worstShown = 12

func overview(v *visit) error {
	s := standing{Now: v.now}
	found, err := v.api.Endpoints(v.Context(), client.BoardQuery{PageQuery: client.PageQuery{Limit: worstShown}})
	if err != nil {
		return err
	}
	v.console.counts.keep(v, found.Totals)
	// A key that sees some subscriptions alone sees no sources.
	listed, err := v.api.Sources(v.Context())
	if p, ok := errors.AsType[*client.Problem](err); err != nil && (!ok || p.Type != client.Forbidden) {
		return err
	}
	s.Endpoints, s.Worst, s.Sources = found.Totals, found.Items, listed.Items
	view := overviewView{
		Assurance: s.assurance(), Needs: s.needs(), Total: s.total(), Sources: sourceRows(listed.Items), MayWrite: v.may("write"), NoSources: err != nil,
	}
	view.Open, view.Terms = balance(found.Totals)
	if stopped, names := s.stopped(); stopped > len(names) {
		view.More = stopped - len(names)
	}
	return v.render("overview", "overview", s.answer(), view)
}

// balance is what is owed and not delivered, and its members: they add up.
func balance(t client.BoardTotals) (open int64, terms []term) {
	terms = []term{
		{State: state{"idle", "on the way"}, Count: t.OnTheWay, Bound: t.OnTheWay > 0},
		{State: state{"warn", "retrying"}, Count: t.Retrying},
		{State: state{"hold", "held"}, Count: t.Held, Bound: t.Held > 0},
		{State: state{"bad", "dead"}, Count: t.Dead},
	}
	for _, of := range terms {
		open += of.Count
	}
	layOut(terms, open)
	return open, terms
}

// layOut gives each member its part of a bar of 1,000 units: one that is there
// at all is seen.
func layOut(terms []term, sum int64) {
	const width, gap, least = 1000.0, 2.0, 4.0
	shown := 0
	for _, of := range terms {
		if of.Count > 0 {
			shown++
		}
	}
	if shown == 0 {
		return
	}
	free := width - gap*float64(shown-1) - least*float64(shown)
	x := 0.0
	for i := range terms {
		if terms[i].Count == 0 {
			continue
		}
		terms[i].X = x
		terms[i].Wid = least + free*float64(terms[i].Count)/float64(sum)
		x += terms[i].Wid + gap
	}
}
