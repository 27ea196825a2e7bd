package subscriptions

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"
)

const (
	maxPatternBytes = 255

	oneSegment = "*"
	theRest    = "**"

	// noticePrefix starts the types of rowcall's own events. No wildcard takes
	// the place of its first segment: notices go only where they are named.
	noticePrefix = "rowcall."
)

// CheckPattern reports what keeps a text from being an event pattern.
//
// A pattern is a row of segments with dots between them. A segment is a name as
// EncodeName writes it, "*" for exactly one segment, or, as the last one, "**"
// for one segment or more. Types that start with "rowcall." match only patterns
// whose first segment is "rowcall" itself. A pattern has at most 255 bytes.
func CheckPattern(pattern string) error {
	switch {
	case pattern == "":
		return errors.New(`must not be empty; "**" takes every event`)
	case len(pattern) > maxPatternBytes:
		return fmt.Errorf(`must have at most %d bytes; put "*" in the place of long names`, maxPatternBytes)
	case !utf8.ValidString(pattern):
		return errors.New("must be valid UTF-8")
	}
	for rest, more := pattern, true; more; {
		var segment string
		segment, rest, more = strings.Cut(rest, ".")
		if segment == theRest && more {
			return errors.New(`may have "**" only as its last segment; "*" stands for one segment`)
		}
		if err := checkSegment(segment); err != nil {
			return err
		}
	}
	return nil
}

func checkSegment(segment string) error {
	switch {
	case segment == "":
		return errors.New("must not have empty segments; remove the dot too many")
	case segment == oneSegment, segment == theRest:
		return nil
	case strings.Contains(segment, "*"):
		return errors.New(`may have "*" only as a whole segment; the character itself is written %2A`)
	}
	name, err := url.PathUnescape(segment)
	if err != nil {
		return errors.New("must have two hex digits after each %; the character itself is written %25")
	}
	// A name has one form, or an exact pattern would silently match nothing.
	if canonical := EncodeName(name); canonical != segment {
		return fmt.Errorf("must have %q written %q", segment, canonical)
	}
	return nil
}
