package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bars of an answer.
const (
	listBar     = 200 * time.Millisecond
	overviewBar = 300 * time.Millisecond
	// Of a list by what no index helps with, that finds little: a page, and how many
	// there may be before the first row, or the end.
	walkBar  = 1300 * time.Millisecond
	walkMost = 5
)

// view is something that people look at: a path of the API or of the console.
type view struct {
	path   string
	body   string // of a POST; empty: a GET
	key    *key   // of the API that asks; nil: one that may do all
	status int    // that is wanted; 0: 200
	few    bool   // it is not a full page of the API
	empty  string // where it goes on, if it has found nothing yet
}

// key is an API key that is restricted to what has a label.
type key struct{ label, secret string }

func (v view) bar() time.Duration {
	if u, err := url.Parse(v.path); v.few && err == nil {
		for _, name := range []string{"filter", "where", "reason", "status", "type", "outcome", "since", "until", "within"} {
			if u.Query().Has(name) {
				return walkBar
			}
		}
	}
	if path, _, _ := strings.Cut(v.path, "?"); path == "/" || path == "/metrics" {
		return overviewBar
	}
	return listBar
}

// pagesPhase measures every list and page on a store with a thousand subscriptions
// and a million of everything that grows: by each filter, and at any depth.
func pagesPhase(ctx context.Context, w *world, o options, r *report) error {
	begun := time.Now()
	if err := w.fill(ctx); err != nil {
		return err
	}
	r.line("pages: the store was filled in", "%8.0f s", time.Since(begun).Seconds())
	views, err := w.views(ctx)
	if err != nil {
		return err
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	browser := &http.Client{Jar: jar}
	response, err := browser.PostForm("http://"+w.listen+"/sign-in", url.Values{"key": {apiKey}, "next": {"/sources"}}) //nolint:noctx // below, each has one
	if err != nil {
		return err
	}
	_, err = read(response, http.StatusOK)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return fmt.Errorf("sign in: %w", err)
	}
	for _, v := range views {
		took := make([]time.Duration, 1+max(3, o.rounds)) // the first warms up
		for i := range took {
			if took[i], err = w.look(ctx, browser, &v); err != nil {
				return err
			}
		}
		slices.Sort(took[1:])
		r.showPage(v, took[1:][len(took[1:])/2], slices.Max(took))
		if err := w.goOn(ctx, browser, v, r); err != nil {
			return err
		}
	}
	return w.stopRowcall()
}

// goOn asks for further pages of a list that has found nothing yet, and says how many
// there are before the first row, or the end.
func (w *world) goOn(ctx context.Context, browser *http.Client, v view, r *report) (err error) {
	pages, begun := 1, time.Now()
	for path := v.path; v.empty != "" && pages <= 10*walkMost; pages++ {
		u, err := url.Parse(path)
		if err != nil {
			return err
		}
		q := u.Query()
		q.Set("cursor", v.empty)
		u.RawQuery = q.Encode()
		further := view{path: u.String(), key: v.key}
		if _, err = w.look(ctx, browser, &further); err != nil {
			return err
		}
		v.empty = further.empty
	}
	if pages > 1 {
		r.showFurther(v, pages, time.Since(begun))
	}
	return nil
}

// look asks for a view as people do, and says how long the whole answer took. It
// notes in v what was found.
func (w *world) look(ctx context.Context, browser *http.Client, v *view) (took time.Duration, err error) {
	method, reader := http.MethodGet, io.Reader(nil)
	if v.body != "" {
		method, reader = http.MethodPost, bytes.NewReader([]byte(v.body))
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+w.listen+v.path, reader)
	if err != nil {
		return 0, err
	}
	client := browser
	if strings.HasPrefix(v.path, "/v1/") || v.path == "/metrics" {
		client = http.DefaultClient
		secret := apiKey
		if v.key != nil {
			secret = v.key.secret
		}
		request.Header.Set("Authorization", "Bearer "+secret)
		request.Header.Set("Content-Type", "application/json")
	}
	begun := time.Now()
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	text, err := read(response, max(v.status, 200))
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return 0, fmt.Errorf("%s: %w", v.path, err)
	}
	took = time.Since(begun)
	var list struct {
		Items      []json.RawMessage `json:"items"`
		NextCursor *string           `json:"next_cursor"`
	}
	v.few, v.empty = true, ""
	if client != browser && json.Unmarshal(text, &list) == nil {
		v.few = len(list.Items) < 100
		if len(list.Items) == 0 && list.NextCursor != nil {
			v.empty = *list.NextCursor
		}
	}
	return took, nil
}

// read reads an answer, which is to have a status.
func read(response *http.Response, status int) ([]byte, error) {
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != status {
		err = fmt.Errorf("%s: %.300s", response.Status, text)
	}
	return text, err
}

// list is a list of the API: its path, the values of its filters in the order in
// which its cursors hold them, and positions at some depths.
type list struct {
	name, path string
	filters    []filter
	positions  []string
}

// filter is a query's parameter; unset is how a cursor holds the lack of it.
type filter struct{ name, unset string }

// by is an address of the list by filters, each name=value.
func (l *list) by(position string, by ...string) string {
	q, held := url.Values{}, ""
	for _, f := range l.filters {
		value := f.unset
		for _, b := range by {
			if name, v, _ := strings.Cut(b, "="); name == f.name {
				value = v
				q.Set(name, v)
			}
		}
		held += strconv.Quote(value)
	}
	if position != "" {
		q.Set("cursor", cursor(l.name, held, position))
	}
	if len(q) == 0 {
		return l.path
	}
	return l.path + "?" + q.Encode()
}

// cursor makes the API's next_cursor of a position: to get it from the page before,
// one would have to walk there.
func cursor(list, filters, position string) string {
	h := fnv.New64a()
	for _, part := range []string{"1", list, filters, position} {
		_, _ = h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		_, _ = io.WriteString(h, part)
	}
	return base64.RawURLEncoding.EncodeToString(append(h.Sum(nil), position...))
}
