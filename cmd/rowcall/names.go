package main

import (
	"context"

	"github.com/rowcall/rowcall/api/client"
)

// subscriptionNames knows subscriptions by what people call them. It asks for the first
// thousand at once, and for any other when it is met.
type subscriptionNames struct {
	api   *client.Client
	known map[string]string // by id
}

// of is the name of a subscription; its id where nobody knows it any more, nothing
// where there is no id.
func (n *subscriptionNames) of(ctx context.Context, id string) string {
	if id == "" {
		return ""
	}
	if n.known == nil {
		n.known = make(map[string]string)
		page, err := n.api.Subscriptions(ctx, client.SubscriptionQuery{PageQuery: client.PageQuery{Limit: 1000}})
		if err == nil { // else ids have to do
			for _, sub := range page.Items {
				n.known[sub.ID] = sub.Name
			}
		}
	}
	name, ok := n.known[id]
	if !ok {
		name = id
		if sub, err := n.api.Subscription(ctx, id); err == nil {
			name = sub.Name
		}
		n.known[id] = name
	}
	return name
}

// both is a subscription's name with its id.
func (n *subscriptionNames) both(ctx context.Context, id string) string {
	if name := n.of(ctx, id); name != id {
		return name + " (" + id + ")"
	}
	return id
}

// widest is how many characters a name may take in a table.
const widest = 40

// short is a text that leaves room beside it.
func short(text string) string {
	if runes := []rune(text); len(runes) > widest {
		return string(runes[:widest-1]) + "…"
	}
	return text
}
