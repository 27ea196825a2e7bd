package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/dispatch"
	"github.com/rowcall/rowcall/subscriptions"
)

// configured judges what the configuration file declares. The owner is the one
// that it names, else the source: instances of one source share what they declare,
// and those of another do not end it. guard says where requests may go; nil: that
// setting is wrong itself.
func (s *settings) configured(source string, guard *dispatch.Guard) declared {
	members := map[string]any{}
	for key, node := range s.declares {
		if key == sourcesKey {
			continue
		}
		var value any
		if err := node.Decode(&value); err != nil {
			s.add(fault{place(s.path, node), "cannot be read (" + strings.TrimPrefix(err.Error(), "yaml: ") + ")", "write " + key + " as rowcall apply takes it"})
			return declared{}
		}
		members[key] = value
	}
	if len(members) == 0 {
		return declared{owner: source}
	}
	doc := s.declared(members, func(i int) string {
		at := s.path
		if list := s.declares["subscriptions"]; i < len(list.Content) {
			at = place(s.path, list.Content[i])
		}
		return fmt.Sprintf("%s subscriptions[%d]", at, i)
	})
	if doc.prune && doc.owner != "" && len(doc.subs) == 0 && s.declares["subscriptions"] != nil {
		s.add(fault{
			"prune", fmt.Sprintf("would delete every subscription that owner %q declared, for the list is empty", doc.owner),
			"leave prune out, which releases them, and delete by hand what is to go",
		})
	}
	if doc.owner == "" {
		doc.owner = source
	}
	for i := range doc.subs {
		s.checkURLs(&doc.subs[i], guard)
	}
	return doc
}

// checkURLs adds a fault for every URL of a declaration that may not be called.
func (s *settings) checkURLs(d *declaredSub, guard *dispatch.Guard) {
	if guard == nil || d.want == nil {
		return
	}
	check := func(field, url string) {
		if err := guard.CheckURL(url); err != nil {
			s.add(d.fault(subscriptions.FieldError{Field: field, Message: err.Error()}))
		}
	}
	check("endpoint.url", d.given.Spec.Endpoint.URL)
	if auth := d.given.Spec.Endpoint.Auth; auth != nil && auth.TokenURL != "" {
		check("endpoint.auth.token_url", auth.TokenURL)
	}
}

// ownerRemedy is what to do about a name that an owner declares already.
func ownerRemedy(owner string) string {
	return fmt.Sprintf("declare it in one place; where this file was that owner's, under another owner or source name, start once with "+
		"owner: %q and subscriptions: [], which releases what it declared, then with this one", owner)
}

// declare makes the subscriptions what the configuration file declares. The log
// says what changed by the names of members, for values may be secret. Where no
// owner is known, nothing is declared and nothing ends.
func declare(ctx context.Context, a *api.API, doc declared, log zerolog.Logger) error {
	if doc.owner == "" {
		return nil
	}
	done, err := a.Declare(ctx, doc.owner, doc.prune, doc.declarations())
	for _, did := range done {
		level, message := zerolog.InfoLevel, "subscription declared by the configuration"
		if did.Action == "taken-over" {
			level, message = zerolog.WarnLevel, "the configuration declares a subscription that was nobody's: it is the file's from now on, and goes where the file drops it and prunes"
		}
		log.WithLevel(level).Str("subscription", did.Name).Str("owner", doc.owner).Str("action", did.Action).Strs("changed", did.Members).Msg(message)
	}
	return wrap("declare subscriptions", doc.faults(err))
}

// declarations are the subscriptions of a document as the API takes them.
func (d *declared) declarations() []api.Declaration {
	list := make([]api.Declaration, len(d.subs))
	for i := range d.subs {
		list[i] = d.subs[i].given
	}
	return list
}

// faults are an error's faults by the places in the file; any other error stays.
func (d *declared) faults(err error) error {
	found, ok := errors.AsType[api.DeclarationFaults](err)
	if !ok {
		return err
	}
	var faults faultsError
	for _, f := range found {
		named := d.subs[f.Index].fault(f.FieldError)
		if f.Owner != "" {
			named.remedy = ownerRemedy(f.Owner)
		}
		faults = append(faults, named)
	}
	return faults
}
