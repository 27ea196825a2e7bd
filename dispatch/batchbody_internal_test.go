package dispatch

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/rowcall/rowcall/store"
)

func TestTheSizeOfAnEventIsKnownBeforeItIsWritten(t *testing.T) {
	t.Parallel()
	text := rapid.OneOf(rapid.Just(""), rapid.String(), rapid.StringMatching(`[\x00-\x7f]{0,20}`),
		rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
	rapid.Check(t, func(t *rapid.T) {
		e := &store.Event{
			Offset:     store.Offset(rapid.Int64Min(0).Draw(t, "offset")),
			LSN:        store.LSN(rapid.Uint64().Draw(t, "lsn")),
			Ordinal:    rapid.Int64Min(0).Draw(t, "ordinal"),
			Time:       rapid.Int64().Draw(t, "time"),
			Generation: rapid.Int32Range(1, 200).Draw(t, "generation"),
			Kind:       rapid.SampledFrom([]store.Kind{store.KindRow, store.KindKeyless, store.KindMessage, store.KindPublished}).Draw(t, "kind"),
			Type:       text.Draw(t, "type"), Key: text.Draw(t, "key"), Subject: text.Draw(t, "subject"),
			PublicID: text.Draw(t, "id"), Source: text.Draw(t, "source"), Data: []byte(text.Draw(t, "data")),
		}
		if rapid.Bool().Draw(t, "given") {
			e.Given = &store.Given{Time: text.Draw(t, "given time")}
			for range rapid.IntRange(0, 3).Draw(t, "extensions") {
				value := appendString(nil, text.Draw(t, "value"))
				e.Given.Extensions = append(e.Given.Extensions, store.Extension{Name: rapid.StringMatching(`[a-z0-9]{1,20}`).Draw(t, "name"), Value: value})
			}
		}
		body := AppendCloudEvent(nil, e)
		if got := cloudEventSize(e); got != len(body) {
			t.Fatalf("size %d, want %d: %s", got, len(body), body)
		}
	})
}
