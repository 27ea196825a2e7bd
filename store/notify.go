package store

// Topic is a kind of change that other parts want to hear of.
type Topic string

const (
	TopicSubscriptions Topic = "subscriptions" // a subscription was made, changed or deleted
	TopicIntents       Topic = "intents"       // somebody asked for a retry or discard
	TopicGaps          Topic = "gaps"          // a gap was recorded or accepted
)

// Changes returns a channel that receives a topic after something of it
// changed, from whichever instance, and every topic once after the listening
// connection was lost. Topics that come faster than they are read are merged.
func (s *Store) Changes() (changes <-chan Topic, stop func()) { panic("unwritten") }
