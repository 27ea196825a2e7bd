package subscriptions

const leaveOut = "leave it out"

// unavailable are the members whose form is settled but whose behaviour this
// version does not have. A Spec that uses one is refused: to accept it and not
// do it would be worse. Lines leave this table as versions learn them.
var unavailable = []struct {
	field  string
	remedy string
	used   func(*Spec) bool
}{
	{"compact", "use false", func(s *Spec) bool { return s.Compact }},
}
