package web

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rowcall/rowcall/api/client"
)

// spark is the last hour of a subscription as a line of a list has it: paths in a
// box of 60 by 20, a unit a minute, and the same in words.
type spark struct {
	Delivered, Failed string // paths; empty: there were none
	Text              string
}

// sparkOf draws what was delivered, and what failed on top of it.
func sparkOf(r *client.RecentTries) spark {
	if r == nil {
		return spark{Text: unknown}
	}
	var delivered, failed, top int64
	both := slices.Clone(r.Failed)
	for i := range both {
		failed += both[i]
		if r.Delivered != nil {
			delivered += r.Delivered[i]
			both[i] += r.Delivered[i]
		}
		top = max(top, both[i])
	}
	var s spark
	if failed > 0 {
		s.Failed = steps(both, top)
	}
	if delivered > 0 {
		s.Delivered = steps(r.Delivered, top)
	}
	switch {
	case r.Delivered == nil && failed > 0:
		s.Text = number(failed) + " failed"
	case r.Delivered == nil:
		s.Text = unknown
	case failed > 0:
		s.Text = number(delivered) + " delivered, " + number(failed) + " failed"
	case delivered > 0:
		s.Text = number(delivered) + " delivered"
	default:
		s.Text = "nothing sent"
	}
	return s
}

// steps is the outline of bars, a unit wide each, that touch. What is there at all
// is seen.
func steps(values []int64, top int64) string {
	const high = 20.0
	var b strings.Builder
	b.WriteString("M0 20")
	was := int64(-1)
	for i, v := range values {
		if v != was {
			y := high
			if v > 0 {
				y = min(high-1.5, high-high*float64(v)/float64(top))
			}
			fmt.Fprintf(&b, "H%dV%.3g", i, y)
			was = v
		}
	}
	fmt.Fprintf(&b, "H%dV20Z", len(values))
	return b.String()
}
