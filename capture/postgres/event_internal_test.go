package postgres

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/rowcall/rowcall/store"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares text with testdata/<name>.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func render(events []captured) string {
	var s strings.Builder
	for _, e := range events {
		fmt.Fprintf(&s, "%d %s kind=%d key=%q", e.Ordinal, e.Type, e.Kind, e.Key)
		if e.OldKey != "" {
			fmt.Fprintf(&s, " old_key=%q", e.OldKey)
		}
		if e.Subject != "" {
			fmt.Fprintf(&s, " subject=%q", e.Subject)
		}
		fmt.Fprintf(&s, "\n  %s\n", shorten(e.Data))
	}
	return s.String()
}

// shorten writes long runs of one character by their length.
func shorten(s string) string {
	var short strings.Builder
	for len(s) > 0 {
		_, size := utf8.DecodeRuneInString(s)
		first, n := s[:size], 0
		for strings.HasPrefix(s, first) {
			n, s = n+1, s[size:]
		}
		if n > 32 {
			fmt.Fprintf(&short, "<%d times %s>", n, first)
		} else {
			short.WriteString(strings.Repeat(first, n))
		}
	}
	return short.String()
}

// documents is a table with a key of two columns around a third, and one value
// that may be TOASTed.
func documents(identity byte, keyed bool) []byte {
	full := identity == 'f'
	return relationMessage(7, "my.app", "docs/2026", identity,
		columnSpec{"tenant", pgtype.TextOID, keyed || full},
		columnSpec{"title", pgtype.TextOID, full},
		columnSpec{"no", pgtype.Int4OID, keyed || full},
		columnSpec{"body", pgtype.JSONBOID, full})
}

func TestRowEvents(t *testing.T) {
	t.Parallel()
	primaryKey := func(relation uint32) ([]string, error) { return []string{"no", "tenant"}, nil }
	row := []any{"a/b", "T", "1", `{"x": 1}`}
	for name, test := range map[string]struct {
		config   decoderConfig
		messages [][]byte
	}{
		"identity_default": {messages: [][]byte{
			documents('d', true),
			insertMessage(7, row...),
			updateMessage(7, nil, "a/b", "T2", "1", unchanged{}),
			updateMessage(7, tuple('K', "a/b", nil, "1", nil), "a/b", "T2", "2", unchanged{}), // another key
			updateMessage(7, tuple('K', "a/b", nil, "2", nil), "a/b", "T3", "2", nil),         // the same key
			updateMessage(7, tuple('K', "a/b", nil, "2", nil), unchanged{}, "T3", "2", nil),   // key TOASTed, sent in the old tuple
			updateMessage(7, tuple('K', "a/b", nil, "2", nil), unchanged{}, "T3", "9", nil),   // and changed elsewhere
			updateMessage(7, nil, unchanged{}, "T3", "9", nil),                                // key not known
			deleteMessage(7, tuple('K', "a/b", nil, "9", nil)),
			truncateMessage(7),
		}},
		"identity_index": {messages: [][]byte{
			documents('i', true),
			insertMessage(7, row...),
			updateMessage(7, tuple('K', "a/b", nil, "1", nil), "c,d=e", "T", "1", `{"x": 1}`),
			deleteMessage(7, tuple('K', "c,d=e", nil, "1", nil)),
		}},
		"identity_full": {config: decoderConfig{primaryKey: primaryKey}, messages: [][]byte{
			documents('f', false),
			insertMessage(7, row...),
			updateMessage(7, tuple('O', row...), "a/b", nil, "1", unchanged{}),
			updateMessage(7, tuple('O', "a/b", nil, "1", `{"x": 1}`), "a/b", "", "1", `{"x": 2}`),
			updateMessage(7, tuple('O', "a/b", "", "1", `{"x": 2}`), "a/b", "", "1", unchanged{}),   // nothing changed
			updateMessage(7, tuple('O', "a/b", "", "1", `{"x": 2}`), "a/b", "", "2", unchanged{}),   // another key
			updateMessage(7, tuple('O', "a/b", "", "2", unchanged{}), "a/b", "x", "2", unchanged{}), // not sent at all
			updateMessage(7, nil, "a/b", "y", "2", unchanged{}),                                     // no old tuple
			deleteMessage(7, tuple('O', "a/b", nil, "2", `{"x": 2}`)),
		}},
		"identity_full_keyless": {messages: [][]byte{
			documents('f', false),
			insertMessage(7, row...),
			updateMessage(7, tuple('O', row...), "a/b", nil, "1", unchanged{}),
			deleteMessage(7, tuple('O', "a/b", nil, "1", `{"x": 1}`)),
		}},
		"identity_nothing": {messages: [][]byte{
			documents('n', false),
			insertMessage(7, row...),
			updateMessage(7, nil, row...),
			deleteMessage(7, tuple('K', nil, nil, nil, nil)),
			truncateMessage(7),
		}},
		"partition_with_another_identity": {messages: [][]byte{
			documents('d', true),
			updateMessage(7, tuple('K', nil, nil, "1", nil), "a", "T", "1", nil),
			updateMessage(7, tuple('K', nil, nil, "1", nil), "a", "T", "2", nil),
			deleteMessage(7, tuple('K', nil, nil, "2", nil)),
		}},
		"lossy": {config: decoderConfig{primaryKey: primaryKey}, messages: [][]byte{
			documents('f', false),
			insertMessage(7, "a\xff", "caf\xe9", "1", "{\"x\": \"\xe9\"}"),
			updateMessage(7, tuple('O', "a\xff", "caf\xe9", "1", nil), "a\xff", "café", "1", nil),
			updateMessage(7, tuple('O', "a\xff", "\xe8", "1", nil), "a\xff", "\xe9", "1", nil),
			deleteMessage(7, tuple('O', "a\xff", "caf\xe9", "1", nil)),
		}},
		"oversize": {config: decoderConfig{primaryKey: primaryKey, maxValueBytes: 8}, messages: [][]byte{
			documents('f', false),
			insertMessage(7, "a", "12345678", "1", "[1,2,3,4]"),
			insertMessage(7, "a longer key", "123456789", "1", "[]"),
			updateMessage(7, tuple('O', "a", "123456789", "1", "[1,2,3,4,5]"), "a", "short", "1", unchanged{}),
			deleteMessage(7, tuple('O', "a", "123456789", "1", nil)),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			golden(t, "events_"+name+".txt", render(decodeAll(t, test.config, test.messages...)))
		})
	}
}

func TestKeyOfFullIdentityIsLookedUpForEachVersionOfTheRelation(t *testing.T) {
	t.Parallel()
	answers := [][]string{{"no"}, {"no", "tenant"}, {"no", "missing"}, nil}
	calls := 0
	primaryKey := func(relation uint32) ([]string, error) {
		calls++
		return answers[calls-1], nil
	}
	insert := insertMessage(7, "a", "T", "1", nil)
	var messages [][]byte
	for range answers {
		messages = append(messages, documents('f', false), insert, insert)
	}
	got := decodeAll(t, decoderConfig{primaryKey: primaryKey}, messages...)
	table := "my%2Eapp.docs%2F2026"
	for i, want := range []string{table + "/no=1", table + "/tenant=a,no=1", table, table} {
		for _, e := range got[2*i : 2*i+2] {
			if e.Key != want || (e.Kind == store.KindRow) != (i < 2) {
				t.Errorf("with the key %v: %q of kind %d, want %q", answers[i], e.Key, e.Kind, want)
			}
		}
	}
}

func TestCatalogueThatCannotBeAskedIsAnError(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	for name, config := range map[string]decoderConfig{
		"primary key": {primaryKey: func(uint32) ([]string, error) { return nil, down }},
		"types":       {types: func([]uint32) (map[uint32]typeInfo, error) { return nil, down }},
	} {
		d := newDecoder(config)
		_, err := d.decode(relationMessage(7, "public", "t", 'f', columnSpec{"a", 20001, true}), new(store.Batch))
		if !errors.Is(err, down) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeysOfManyEventsStayApart(t *testing.T) {
	t.Parallel()
	// More than one chunk of the arena, and a key longer than a chunk.
	messages := [][]byte{relationMessage(7, "public", "t", 'd', columnSpec{"id", pgtype.TextOID, true})}
	var want []string
	for i := range 3000 {
		id := fmt.Sprintf("%d%s", i, strings.Repeat("x", i%40))
		if i == 1500 {
			id = strings.Repeat("y", 2*arenaChunk)
		}
		messages = append(messages, insertMessage(7, id))
		want = append(want, "public.t/id="+id)
	}
	d, b := newDecoder(decoderConfig{}), new(store.Batch)
	feed(t, d, b, beginMessage(0x100))
	feed(t, d, b, messages...)
	for i, e := range eventsOf(t, b) {
		if e.Key != want[i] {
			t.Fatalf("key %d is %.60q, want %.60q", i, e.Key, want[i])
		}
	}
}
