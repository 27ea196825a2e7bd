package dispatch

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"
)

// Bounds of what is kept of token endpoints.
const (
	maxTokenMargin  = time.Minute      // a token is renewed before it ends by this, or a tenth of its life
	tokenFailure    = time.Second      // a failure stands for everybody who asks within this
	tokenRefusalAge = 10 * time.Second // a refused token is fetched anew if it is older than this
	maxTokens       = 10_000
)

// tokens keeps the OAuth 2.0 tokens of all lanes, in memory alone. Of one client
// at one token endpoint there is one, and one request for it at a time, whose
// answer, also when it is a failure, is everybody's. The zero value is ready. It
// is safe for concurrent use.
type tokens struct {
	mu   sync.Mutex
	byID map[[sha256.Size]byte]*token
}

type token struct {
	value    string
	at       time.Time // when it was fetched
	until    time.Time // it is good before this
	err      error     // of the last request, if that failed
	errUntil time.Time
	fetching chan struct{} // closed when the request under way has ended; nil: there is none
	style    inBody
}

// get returns a token that is good for a while, fetching one where there is
// none. Its error is a *tokenError.
//
// The first who asks makes the request, within its own time; if that is over
// before there is an answer, the next one makes it.
func (k *tokens) get(ctx context.Context, s *Sender, c *oauthClient) (string, error) {
	for {
		k.mu.Lock()
		entry := k.entry(c)
		now := time.Now()
		switch {
		case entry.value != "" && now.Before(entry.until):
			value := entry.value
			k.mu.Unlock()
			return value, nil
		case entry.err != nil && now.Before(entry.errUntil):
			err := entry.err
			k.mu.Unlock()
			return "", err
		case entry.fetching == nil:
			entry.fetching = make(chan struct{})
			style := entry.style
			k.mu.Unlock()
			return k.renew(ctx, s, c, entry, style)
		}
		fetching := entry.fetching
		k.mu.Unlock()
		select {
		case <-fetching:
		case <-ctx.Done():
			return "", &tokenError{err: ctx.Err()}
		}
	}
}

// renew makes the request that entry is marked with.
func (k *tokens) renew(ctx context.Context, s *Sender, c *oauthClient, entry *token, style inBody) (string, error) {
	value, life, style, err := s.fetch(ctx, c, style)
	k.mu.Lock()
	defer k.mu.Unlock()
	close(entry.fetching)
	entry.fetching = nil
	now := time.Now()
	if err != nil {
		// Where our own time was over, that says nothing to the others.
		if ctx.Err() == nil {
			entry.err, entry.errUntil = err, now.Add(tokenFailure)
		}
		return "", err
	}
	entry.value, entry.at, entry.style, entry.err = value, now, style, nil
	entry.until = now.Add(life - min(maxTokenMargin, life/10))
	return value, nil
}

// refused says that an endpoint answered 401 to a token: it may have been
// revoked, and the next attempt fetches another. Not where the token is fresh,
// or an endpoint that refuses everything would have one fetched for each try.
func (k *tokens) refused(c *oauthClient, value string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if entry := k.byID[c.id]; entry != nil && entry.value == value && time.Since(entry.at) >= tokenRefusalAge {
		entry.value = ""
	}
}

// entry finds or makes the entry of a client. mu is held.
func (k *tokens) entry(c *oauthClient) *token {
	entry := k.byID[c.id]
	if entry != nil {
		return entry
	}
	if k.byID == nil {
		k.byID = make(map[[sha256.Size]byte]*token)
	}
	if len(k.byID) >= maxTokens {
		k.forget()
	}
	entry = &token{}
	k.byID[c.id] = entry
	return entry
}

// forget makes room for a tenth more, so that it has not to be done at each: of
// tokens that are over, then of any. mu is held.
func (k *tokens) forget() {
	now := time.Now()
	for id, entry := range k.byID {
		if entry.fetching == nil && !now.Before(entry.until) {
			delete(k.byID, id)
		}
	}
	for id, entry := range k.byID {
		if len(k.byID) < maxTokens-maxTokens/10 {
			return
		}
		if entry.fetching == nil {
			delete(k.byID, id)
		}
	}
}
