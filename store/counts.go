package store

// Counts is what became of a lane's events, all in all: its owner counts in
// memory and settles the sums, so a settlement in doubt counts once. An event is
// counted in the settlement by which the cursor passes it, or its delivery goes.
type Counts struct {
	Delivered  int64
	Filtered   int64 // not wanted when their turn came; what a filter leaves out at first sight is not counted: see Balance
	Discarded  int64 // deliveries
	Compacted  int64 // superseded by a newer event of their key
	Overflowed int64 // passed, and owed by an Overflow alone
}

// countRows are the counts of a settlement, as columns.
type countRows struct {
	delivered, filtered, discarded, compacted, passedOver []int64
}

func newCountRows(n int) countRows {
	all := make([]int64, 5*n)
	return countRows{all[:n:n], all[n : 2*n : 2*n], all[2*n : 3*n : 3*n], all[3*n : 4*n : 4*n], all[4*n:]}
}

func (r *countRows) set(i int, c *Counts) {
	r.delivered[i], r.filtered[i], r.discarded[i], r.compacted[i], r.passedOver[i] =
		c.Delivered, c.Filtered, c.Discarded, c.Compacted, c.Overflowed
}
