package subscriptions_test

import (
	"regexp"
	"testing"

	"github.com/rowcall/rowcall/subscriptions"
)

func TestIDsAreFreshAndOfOneForm(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^sub_[a-z0-9]{26}$`)
	seen := map[subscriptions.ID]bool{}
	for range 1000 {
		id := subscriptions.NewID()
		if !form.MatchString(string(id)) || seen[id] {
			t.Fatalf("NewID() = %q, seen before: %v", id, seen[id])
		}
		seen[id] = true
		if got, err := subscriptions.ParseID(string(id)); err != nil || got != id {
			t.Fatalf("ParseID(%q) = %q, %v", id, got, err)
		}
	}
}

func TestParseIDRefusesEverythingElse(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "sub_", "sub_abcdefghijklmnopqrstuvwxy", "sub_abcdefghijklmnopqrstuvwxyz0", "sub_abcdefghijklmnopqrstuvwxyZ",
		"rpl_abcdefghijklmnopqrstuvwxyz", "sub_abcdefghijklmnopqrstuvwx/z", "SUB_abcdefghijklmnopqrstuvwxyz",
	} {
		if id, err := subscriptions.ParseID(text); err == nil {
			t.Errorf("ParseID(%q) = %q", text, id)
		}
	}
}
