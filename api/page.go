package api

import (
	"encoding/base64"
	"encoding/binary"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/rowcall/rowcall/store"
)

// maxPageBytes bounds the payloads of one page: a page that reaches it ends
// early, and its next_cursor goes on from there.
const maxPageBytes = 8 << 20

// looking is how long a list looks for what fits, before its page ends: for
// store.ListTime, and for emptyTime where it has found nothing at all, so that people
// rarely see an empty page that is not the last.
type looking struct{ begun time.Time }

const emptyTime = time.Second

func startLooking() looking { return looking{time.Now()} }

// left is the time that is left to a list that has found some; 0 or less: it is over.
func (l looking) left(found int) time.Duration {
	if found == 0 {
		return emptyTime - time.Since(l.begun)
	}
	return store.ListTime - time.Since(l.begun)
}

// next is how long to look at once.
func (l looking) next(found int) time.Duration { return min(store.ListTime, l.left(found)) }

// PageInput is the part of a list's parameters that every list has. It is
// exported because the framework passes over what is not, when embedded.
type PageInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"Items a page has at most."`
	Cursor string `query:"cursor" maxLength:"1024" doc:"next_cursor of the page before, with the same filters."`
}

// page is a list's answer.
type page[T any] struct {
	Items      []T     `json:"items"`
	NextCursor *string `json:"next_cursor" doc:"Send it as cursor to get the next page; null on the last."`
}

// A cursor is opaque to callers. It carries where the page before ended, and a
// check over that, the list and its filters: one that was made up, or that
// comes with other filters than its page, is refused instead of misread.

// sealCursor makes the cursor of a position in a list.
func sealCursor(list, filters, position string) *string {
	token := base64.RawURLEncoding.EncodeToString(append(cursorCheck(list, filters, position), position...))
	return &token
}

// openCursor reads a cursor; an empty one is the list's start, and its position
// is empty too.
func openCursor(list, filters, token string) (position string, err error) {
	if token == "" {
		return "", nil
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) <= 8 {
		return "", badCursor()
	}
	position = string(raw[8:])
	if string(cursorCheck(list, filters, position)) != string(raw[:8]) {
		return "", badCursor()
	}
	return position, nil
}

func badCursor() *problem {
	return invalid("query.cursor", "not a cursor of this list with these filters: begin again without it")
}

func cursorCheck(list, filters, position string) []byte {
	h := fnv.New64a()
	for _, part := range []string{"1", list, filters, position} {
		_, _ = h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		_, _ = h.Write([]byte(part))
	}
	return h.Sum(nil)
}

// joinFilters makes one text of filter values, the same only for the same values.
func joinFilters(values ...string) string {
	var b strings.Builder
	for _, v := range values {
		b.WriteString(strconv.Quote(v))
	}
	return b.String()
}

// joinNumbers and splitNumbers write and read a position of n numbers.
func joinNumbers(numbers ...int64) string {
	parts := make([]string, len(numbers))
	for i, n := range numbers {
		parts[i] = strconv.FormatInt(n, 10)
	}
	return strings.Join(parts, ".")
}

func splitNumbers(position string, n int) ([]int64, error) {
	numbers := make([]int64, n)
	if position == "" {
		return numbers, nil
	}
	parts := strings.Split(position, ".")
	if len(parts) != n {
		return nil, badCursor()
	}
	for i, part := range parts {
		v, err := strconv.ParseInt(part, 10, 64)
		if err != nil || v < 0 {
			return nil, badCursor()
		}
		numbers[i] = v
	}
	return numbers, nil
}
