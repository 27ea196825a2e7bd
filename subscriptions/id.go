package subscriptions

import (
	"crypto/rand"
	"errors"
	"strings"
)

const (
	idPrefix = "sub_"
	idLength = 26
)

// ID names a subscription: "sub_" and 26 lower-case letters and digits. It is
// random: it says nothing about when the subscription was made.
type ID string

// NewID makes a fresh ID of 130 random bits.
func NewID() ID { return ID(idPrefix + strings.ToLower(rand.Text()[:idLength])) }

// ParseID reads an ID and refuses every other text.
func ParseID(s string) (ID, error) {
	rest, ok := strings.CutPrefix(s, idPrefix)
	if !ok || len(rest) != idLength {
		return "", errors.New(`subscription id must be "sub_" and 26 lower-case letters and digits`)
	}
	for i := range len(rest) {
		if c := rest[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return "", errors.New(`subscription id must be "sub_" and 26 lower-case letters and digits`)
		}
	}
	return ID(s), nil
}
