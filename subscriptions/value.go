package subscriptions

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// maxDocument bounds the JSON values that expressions open, in bytes: to read
// one is work that the cost of an expression does not show.
const maxDocument = 256 << 10

// maxNested bounds arrays directly within arrays, and how deep a whole value that
// is compared may be on average, at its largest. Each level is read anew.
const maxNested = 16

var errTooLarge = fmt.Errorf("a JSON value is larger than %d KiB or nested too deeply for expressions", maxDocument>>10)

// plainValue is the JSON raw as CEL sees it, without a column's type.
func plainValue(d *Decoded, kind objectKind, raw []byte) ref.Val { return readValue(d, kind, raw, 0) }

func readValue(d *Decoded, kind objectKind, raw []byte, depth int) ref.Val {
	if len(raw) == 0 {
		return types.NewErr("the event %v", errNotJSON)
	}
	switch c := raw[skipSpace(raw, 0):]; {
	case len(c) == 0:
		return types.NewErr("the event %v", errNotJSON)
	case c[0] == '{':
		o := &jsonObject{d: d, kind: kind, raw: c, index: &index{}}
		switch kind {
		case objectDocument:
			o.large = len(c) > maxDocument || tooMany(c)
		case objectRoot:
			o.large = tooMany(c)
		case objectData, objectRow:
		}
		return o
	case c[0] == '[':
		return readList(d, c, Column{Class: ClassJSON}, depth)
	case c[0] == '"':
		s, err := unquoteJSON(bytes.TrimRight(c, " \t\r\n"))
		if err != nil {
			return types.NewErr("a string %v", err)
		}
		return types.String(s)
	default:
		switch s := string(bytes.TrimRight(c, " \t\r\n")); s {
		case "null":
			return types.NullValue
		case "true":
			return types.True
		case "false":
			return types.False
		default:
			return number(s)
		}
	}
}

// opened is a value as something computes with it: an object that is too large is
// an error then. Else its size would be taken for 0, and its names for none.
func opened(v ref.Val) ref.Val {
	if o, ok := v.(*jsonObject); ok && o.large {
		return types.WrapErr(errTooLarge)
	}
	return v
}

// number reads a JSON number: int where it is one that fits, else double.
func number(s string) ref.Val {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return types.Int(n)
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil && !math.IsInf(f, 0) {
		return types.NewErr("a number %v", errNotJSON)
	}
	return types.Double(f)
}

// columnValue is the JSON raw in the type of its column.
func columnValue(d *Decoded, c Column, raw []byte, depth int) ref.Val {
	if string(raw) == "null" {
		return types.NullValue
	}
	if c.List && raw[0] == '[' {
		return readList(d, raw, c, depth)
	}
	text := string(raw)
	if raw[0] == '"' && c.Class != ClassJSON {
		var err error
		if text, err = unquoteJSON(raw); err != nil {
			return types.NewErr("column %s %v", c.Name, err)
		}
	}
	switch c.Class {
	case ClassInt:
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return types.Int(n)
		}
	case ClassDouble:
		// A numeric beyond what a double holds is infinite, as it compares.
		if f, err := strconv.ParseFloat(text, 64); err == nil || math.IsInf(f, 0) {
			return types.Double(f)
		}
	case ClassBool:
		if text == "true" || text == "false" {
			return types.Bool(text == "true")
		}
	case ClassTimestamp:
		if t, ok := parseTime(text); ok {
			return types.Timestamp{Time: t}
		}
		return types.NewErr("column %s holds a time that no expression can: infinity, or a year outside 1 to 9999", c.Name)
	case ClassString:
		if raw[0] == '"' {
			return types.String(text)
		}
	case ClassJSON:
	}
	return readValue(d, objectDocument, raw, depth)
}

func parseTime(text string) (time.Time, bool) {
	for _, layout := range [...]string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999"} {
		if t, err := time.Parse(layout, text); err == nil && t.Year() >= 1 {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}
