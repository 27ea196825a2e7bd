package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

// configurationActor stands in the audit trail for the configuration.
const configurationActor = "configuration"

// Declaration is a subscription as the configuration declares it: what the body
// of create says.
type Declaration struct {
	Spec   subscriptions.Spec
	Start  store.Start          // where it begins when it is made
	Secret subscriptions.Secret // zero: one is made, and stays
}

// ReadDeclaration reads one. Its error is subscriptions.FieldErrors.
func ReadDeclaration(body []byte) (Declaration, error) {
	spec, specErr := subscriptions.ParseSpec(body, "start", "secret")
	start, startErr := parseStart(body)
	secret, secretErr := parseSecret(body)
	return Declaration{spec, start, secret}, joinFields(specErr, startErr, secretErr)
}

// parseSecret reads the member secret of a body. Its error never holds it.
func parseSecret(body []byte) (subscriptions.Secret, error) {
	var members map[string]json.RawMessage
	var secret subscriptions.Secret
	if json.Unmarshal(body, &members) != nil {
		return secret, nil // not an object: ParseSpec says so
	}
	raw := members["secret"]
	if raw == nil || string(raw) == "null" {
		return secret, nil
	}
	err := json.Unmarshal(raw, &secret)
	if err == nil {
		_, err = subscriptions.SigningKey(secret)
	}
	if err != nil {
		return subscriptions.Secret{}, subscriptions.FieldErrors{{
			Field: "secret", Message: "must be whsec_ and the base64 of 24 to 64 bytes; leave it out to have one made",
		}}
	}
	return secret, nil
}

// DeclaredChange is one thing that Declare did.
type DeclaredChange struct {
	Name    string
	Action  string   // created, changed, taken-over, released, deleted
	Members []string // of what was changed, the paths of the members; never values
}

// Declare makes the subscriptions what an owner's configuration declares: one that
// is missing is made, one that differs is changed, and a state that a person chose,
// such as paused, stays. One that nobody declares is taken over, and from then on
// as if the owner had made it. What the owner declared before and does not any more
// is released, or deleted with prune.
//
// The owner must be named. It judges everything before it changes anything; what is wrong is
// DeclarationFaults. Instances may declare at once: whoever comes second finds what
// the first has done, and stops there where the first is another owner.
func (a *API) Declare(ctx context.Context, owner string, prune bool, declared []Declaration) ([]DeclaredChange, error) {
	if owner == "" {
		return nil, errors.New("declare subscriptions: no owner is named")
	}
	if err := JudgeDeclarations(ctx, a.store, a.config.URLs, owner, declared); err != nil {
		return nil, err
	}
	var done []DeclaredChange
	names := map[string]bool{}
	for i := range declared {
		names[declared[i].Spec.Name] = true
		did, err := a.declare(ctx, owner, &declared[i])
		if fault, ok := errors.AsType[DeclarationFaults](err); ok {
			fault[0].Index = i
			return done, fault
		}
		if err != nil {
			return done, fmt.Errorf("declare subscription %q: %w", declared[i].Spec.Name, err)
		}
		if did.Action != "" {
			done = append(done, did)
		}
	}
	dropped, err := a.endDeclared(ctx, owner, prune, names)
	return append(done, dropped...), err
}

// declare makes one subscription what is declared; no action: it is that already.
// One that another owner has declared since it was judged is DeclarationFaults.
func (a *API) declare(ctx context.Context, owner string, d *Declaration) (DeclaredChange, error) {
	for range editTries {
		sub, exists, err := named(ctx, a.store, d.Spec.Name)
		if err != nil {
			return DeclaredChange{}, err
		}
		if exists && sub.ManagedBy != "" && sub.ManagedBy != owner {
			return DeclaredChange{}, DeclarationFaults{{Owner: sub.ManagedBy, FieldError: ownedBy(sub.ManagedBy)}}
		}
		did := DeclaredChange{Name: d.Spec.Name, Action: "changed"}
		if exists && sub.ManagedBy == "" {
			did.Action = "taken-over"
		}
		if !exists {
			did.Action = "created"
			sub = subscriptions.Subscription{
				ID: subscriptions.NewID(), State: subscriptions.Active, Spec: d.Spec, ManagedBy: owner,
				Secrets: []subscriptions.Secret{d.Secret},
			}
			if d.Secret.IsZero() {
				sub.Secrets[0] = subscriptions.NewSigningSecret()
			}
			err = a.store.CreateSubscription(declaring(ctx, owner), &sub, d.Start)
		} else {
			before := sub
			sub.Spec, sub.ManagedBy = d.Spec, owner
			if !d.Secret.IsZero() {
				sub.UseSecret(d.Secret, time.Now(), subscriptions.DefaultOverlap)
			}
			if did.Members, err = changedMembers(&before, &sub); err != nil {
				return DeclaredChange{}, err
			}
			if len(did.Members) == 0 {
				return DeclaredChange{}, nil
			}
			err = a.store.UpdateSubscription(declaring(ctx, owner), &sub, before.Version)
		}
		if err == nil {
			return did, nil
		}
		if !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) {
			return DeclaredChange{}, err
		}
	}
	return DeclaredChange{}, errors.New("others change it all the time: start again")
}

// endDeclared releases what the owner declares no more, or deletes it.
func (a *API) endDeclared(ctx context.Context, owner string, prune bool, names map[string]bool) ([]DeclaredChange, error) {
	const page = 1000
	var done []DeclaredChange
	for after := subscriptions.ID(""); ; {
		found, err := a.store.Subscriptions(ctx, store.SubscriptionFilter{ManagedBy: owner, After: after}, page)
		if err != nil {
			return done, fmt.Errorf("list what %q declared: %w", owner, err)
		}
		for i := range found {
			sub := &found[i]
			after = sub.ID
			if names[sub.Name] {
				continue
			}
			did := DeclaredChange{Name: sub.Name, Action: "released"}
			if prune {
				did.Action = "deleted"
				err = a.store.DeleteSubscription(declaring(ctx, owner), sub.ID, sub.Version)
			} else {
				sub.ManagedBy = ""
				err = a.store.UpdateSubscription(declaring(ctx, owner), sub, sub.Version)
			}
			switch {
			case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrConflict):
				// Another instance was quicker, or a person edits it: the next start sees to the rest.
			case err != nil:
				return done, fmt.Errorf("end what %q declared: %w", owner, err)
			default:
				done = append(done, did)
			}
		}
		if len(found) < page {
			return done, nil
		}
	}
}

// declaring has a change recorded as one of the configuration.
func declaring(ctx context.Context, owner string) context.Context {
	return store.WithChange(ctx, &store.Change{
		Actor: configurationActor, Action: "declare-subscription", Note: "by the configuration of owner " + owner,
	})
}

// changedMembers are the paths of what differs between two states of a
// subscription that the configuration says something of.
func changedMembers(before, after *subscriptions.Subscription) ([]string, error) {
	changed, err := differingMembers("", before.Spec, after.Spec)
	if err != nil {
		return nil, err
	}
	endpoint, err := differingMembers("endpoint.", before.Endpoint, after.Endpoint)
	if err != nil {
		return nil, err
	}
	if at := slices.Index(changed, "endpoint"); at >= 0 {
		changed = slices.Replace(changed, at, at+1, endpoint...)
	}
	if !sameCredentials(&before.Endpoint, &after.Endpoint) {
		changed = append(changed, "endpoint credentials")
	}
	if len(before.Secrets) == 0 || !before.Secrets[0].Equal(after.Secrets[0]) {
		changed = append(changed, "secret")
	}
	if before.ManagedBy != after.ManagedBy {
		changed = append(changed, "managed_by")
	}
	return changed, nil
}

// differingMembers are the members of two objects' JSON that differ.
func differingMembers(at string, before, after any) ([]string, error) {
	var members [2]map[string]json.RawMessage
	for i, v := range []any{before, after} {
		raw, err := json.Marshal(v)
		if err == nil {
			err = json.Unmarshal(raw, &members[i])
		}
		if err != nil {
			return nil, fmt.Errorf("compare subscription: %w", err)
		}
	}
	var names []string
	all := maps.Clone(members[0])
	maps.Copy(all, members[1])
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !bytes.Equal(members[0][name], members[1][name]) {
			names = append(names, at+name)
		}
	}
	return names, nil
}

// sameCredentials compares what no JSON of an endpoint shows.
func sameCredentials(a, b *subscriptions.Endpoint) bool {
	of := func(e *subscriptions.Endpoint) [4]subscriptions.Secret {
		var s [4]subscriptions.Secret
		if e.Auth != nil {
			s[0], s[1], s[2] = e.Auth.Password, e.Auth.Token, e.Auth.ClientSecret
		}
		if e.TLS != nil {
			s[3] = e.TLS.ClientKey
		}
		return s
	}
	old, now := of(a), of(b)
	for i := range old {
		if !old[i].Equal(now[i]) {
			return false
		}
	}
	return true
}

// declaredWarning says what becomes of an edit by hand; empty: nothing declares it.
func declaredWarning(sub *subscriptions.Subscription) []string {
	if sub.ManagedBy == "" {
		return nil
	}
	return []string{fmt.Sprintf("it is declared in the configuration of rowcall (owner %q): what is changed here lasts until the next start, "+
		"which makes it what the file says; to pause it lasts", sub.ManagedBy)}
}
