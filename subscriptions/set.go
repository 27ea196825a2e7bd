package subscriptions

// Set is a compiled table from event type to subscriptions. It is immutable
// once built and safe for concurrent use; its speed does not depend on how many
// subscriptions do not match.
type Set struct{}

// NewSet compiles the patterns of subscriptions; patterns[i] are those of
// number i. Patterns must be valid (Spec.Validate has seen them).
func NewSet(patterns [][]string) *Set { panic("unwritten") }

// Match returns the numbers of the subscriptions that want events of the type,
// in rising order. The slice is shared: callers must not change it.
func (s *Set) Match(eventType string) []int { panic("unwritten") }
