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
	Owed      int64
	Captured  *int64            // all in all; nil: not known
	By        []client.Captured // what that is the sum of
	Terms     []term
	Shares    *shareTable // nil: of one source
	Needs     []need
	More      int // endpoints that need something and are not listed
	Sources   []sourceRow
	Total     int
	MayWrite  bool
	NoSources bool
	Window    string
	Windows   []windowOption
	Charts    []chart
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
	p, ok := errors.AsType[*client.Problem](err)
	forbidden := ok && p.Type == client.Forbidden
	if err != nil && !forbidden {
		return err
	}
	s.Endpoints, s.Worst, s.Sources = found.Totals, found.Items, listed.Items
	window := windowOf(v.URL.Query().Get("window"))
	stats, err := v.api.Stats(v.Context(), window)
	if err != nil {
		return err
	}
	s.Balance = stats.Balance
	view := overviewView{
		Assurance: s.assurance(), Needs: s.needs(), Total: s.total(), Sources: sourceRows(listed.Items), MayWrite: v.may("write"), NoSources: forbidden,
		Window: window, Windows: windows(),
	}
	view.Captured, view.By, view.Charts = stats.Captured, stats.Sources, charts(&stats, v.now)
	view.Owed, view.Terms = balance(&stats.Balance, &stats.Totals)
	view.Shares = sharesOf(&stats, view.Terms)
	if stopped, names := s.stopped(); stopped > len(names) {
		view.More = stopped - len(names)
	}
	return v.render("overview", "overview", s.answer(), view)
}

// balance is what subscriptions want, and what became of it: its members add up.
func balance(b *client.Balance, t *client.BoardTotals) (owed int64, terms []term) {
	// What waits is held where something holds it: as much of it as the board
	// says, which is as of another moment.
	waits := min(b.Waiting, max(0, t.Held-b.Blocked))
	terms = []term{
		{State: state{"ok", "delivered"}, Count: b.Delivered},
		{State: state{"idle", "on the way"}, Count: b.Waiting - waits, Bound: b.Waiting > waits},
		{State: state{"warn", "retrying"}, Count: b.Retrying},
		{State: state{"hold", "held"}, Count: b.Blocked + waits, Bound: waits > 0},
		{State: state{"bad", "dead"}, Count: b.Dead + b.DeadRanges},
	}
	for _, of := range []term{
		{State: state{"idle", "filtered"}, Count: b.Filtered},
		{State: state{"idle", "compacted"}, Count: b.Compacted},
		{State: state{"idle", "discarded"}, Count: b.Discarded},
		{State: state{"idle", "dropped"}, Count: b.Dropped},
		{State: state{"idle", "expired"}, Count: b.Expired},
		{State: state{"bad", "unaccounted"}, Count: b.Unaccounted},
	} {
		if of.Count != 0 {
			terms = append(terms, of)
		}
	}
	layOut(terms, b.Matched)
	return b.Matched, terms
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
		terms[i].Wid = least + free*min(1, float64(terms[i].Count)/float64(max(1, sum)))
		x += terms[i].Wid + gap
	}
}
