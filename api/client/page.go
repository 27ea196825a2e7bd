package client

import (
	"context"
	"iter"
	"net/url"
	"strconv"
	"time"
)

// Page is one page of a list.
type Page[T any] struct {
	Items      []T     `json:"items"`
	NextCursor *string `json:"next_cursor"` // nil on the last page
}

// PageQuery is what every list takes.
type PageQuery struct {
	Limit  int    // 1–1000; 0: 100
	Cursor string // NextCursor of the page before, with the same filters; empty: from the start
}

func (q PageQuery) values() url.Values {
	v := url.Values{}
	if q.Limit != 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	set(v, "cursor", q.Cursor)
	return v
}

// All goes through every page of a list:
//
//	for event, err := range client.All(ctx, query.PageQuery, func(ctx context.Context, p client.PageQuery) (client.Page[client.Event], error) {
//		query.PageQuery = p
//		return c.Events(ctx, query)
//	}) { … }
//
// It ends after an error.
func All[T any](ctx context.Context, from PageQuery, list func(context.Context, PageQuery) (Page[T], error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		at := from
		for {
			page, err := list(ctx, at)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range page.Items {
				if !yield(item, nil) {
					return
				}
			}
			if page.NextCursor == nil {
				return
			}
			at.Cursor = *page.NextCursor
		}
	}
}

func set(v url.Values, name, value string) {
	if value != "" {
		v.Set(name, value)
	}
}

func setTime(v url.Values, name string, t time.Time) {
	if !t.IsZero() {
		v.Set(name, t.UTC().Format(time.RFC3339Nano))
	}
}
