package web

import (
	"slices"

	"github.com/rowcall/rowcall/api/client"
)

// shareTable is the balance by source: its columns are the terms of the whole.
type shareTable struct {
	Columns []state
	Rows    []shareRow
}

// shareRow is what became of the events of one source, or of subscriptions that
// want events of several.
type shareRow struct {
	Sources  []string // none: of subscriptions that have had no event
	More     int      // sources that are not named
	Captured *int64   // of one source
	Owed     int64
	Terms    []term // as the table's columns
}

// namedSources is how many sources a row names, at most: shards may be a hundred.
const namedSources = 4

// sharesOf is nil where there is one source alone: its balance is the whole.
func sharesOf(s *client.Stats, terms []term) *shareTable {
	if s.Captured == nil || len(s.Sources) < 2 && len(s.Shares) < 2 {
		return nil
	}
	t := &shareTable{}
	for _, of := range terms {
		t.Columns = append(t.Columns, of.State)
	}
	for i := range s.Sources {
		t.Rows = append(t.Rows, shareRow{Sources: []string{s.Sources[i].Source}, Captured: &s.Sources[i].Events})
	}
	for i := range s.Shares {
		of := &s.Shares[i]
		if of.Balance.Matched == 0 {
			continue
		}
		at := slices.IndexFunc(t.Rows, func(r shareRow) bool { return slices.Equal(r.Sources, of.Sources) })
		if at < 0 {
			at = len(t.Rows)
			t.Rows = append(t.Rows, shareRow{Sources: of.Sources})
		}
		r := &t.Rows[at]
		var has []term
		r.Owed, has = balance(&of.Balance, &of.Totals)
		for _, column := range t.Columns {
			cell := term{State: column}
			if k := slices.IndexFunc(has, func(x term) bool { return x.State == column }); k >= 0 {
				cell = has[k]
			}
			r.Terms = append(r.Terms, cell)
		}
	}
	for i := range t.Rows {
		if r := &t.Rows[i]; r.Terms == nil {
			for _, column := range t.Columns {
				r.Terms = append(r.Terms, term{State: column})
			}
		}
		if n := len(t.Rows[i].Sources); n > namedSources {
			t.Rows[i].Sources, t.Rows[i].More = t.Rows[i].Sources[:namedSources], n-namedSources
		}
	}
	return t
}
