package subscriptions

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// CheckType reports what keeps a text from being the type of an event that
// somebody publishes: it is a pattern without wildcards, of 255 bytes at most,
// and none of rowcall's own.
func CheckType(eventType string) error {
	switch {
	case eventType == "":
		return errors.New("must not be empty")
	case len(eventType) > maxPatternBytes:
		return fmt.Errorf("must have at most %d bytes", maxPatternBytes)
	case !utf8.ValidString(eventType):
		return errors.New("must be valid UTF-8")
	case eventType == "rowcall" || strings.HasPrefix(eventType, noticePrefix):
		return errors.New(`must not begin with "rowcall": these types are rowcall's own`)
	}
	for segment := range strings.SplitSeq(eventType, ".") {
		if strings.Contains(segment, "*") {
			return errors.New(`must have "*" written %2A: by itself it is a wildcard of patterns`)
		}
		if err := checkSegment(segment); err != nil {
			return err
		}
	}
	return nil
}
