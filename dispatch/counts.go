package dispatch

// What a lane counts is settled with the cursor and the rows of the same moment.
// An event that a row holds is passed by the cursor: so it is counted when its row
// goes, which for one that was discarded is before its turn has come.

// countDelivered counts e, which was acknowledged.
func (l *lane) countDelivered(e *entry) {
	l.counts.Delivered++
	if e.discarded {
		l.counts.Discarded--
	}
}

// countDiscarded counts e, which a person gave up.
func (l *lane) countDiscarded(e *entry) {
	if !e.discarded {
		l.counts.Discarded++
	}
}

// countUnwanted counts e, which its filter left out when its turn came. What the
// walk for an overflowed key finds so was left out before, too.
func (l *lane) countUnwanted(e *entry) {
	switch {
	case e.discarded:
	case e.walked && !e.row:
		e.walked = false
	default:
		l.counts.Filtered++
	}
}
