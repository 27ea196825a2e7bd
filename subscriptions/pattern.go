package subscriptions

import (
	"errors"
	"fmt"
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
	switch segment {
	case "":
		return errors.New("must not have empty segments; remove the dot too many")
	case oneSegment, theRest:
		return nil
	}
	for i := 0; i < len(segment); i++ {
		switch c := segment[i]; {
		case c >= 0x80 || plain[c]:
		case c == '*':
			return errors.New(`may have "*" only as a whole segment; the character itself is written %2A`)
		case c != '%':
			return fmt.Errorf("must have %%%02X in the place of %q", c, c)
		default:
			if i+2 >= len(segment) {
				return errors.New("ends within a percent-encoding; write % and two upper-case hex digits")
			}
			high, low := strings.IndexByte(upperHex, segment[i+1]), strings.IndexByte(upperHex, segment[i+2])
			if high < 0 || low < 0 {
				return errors.New("has a percent-encoding that is not % and two upper-case hex digits; % itself is written %25")
			}
			// One name has one form, or an exact pattern would silently match nothing.
			if b := byte(high<<4 | low); b >= 0x80 || plain[b] {
				return fmt.Errorf("has %s where the character itself must stand", segment[i:i+3])
			}
			i += 2
		}
	}
	return nil
}
