package postgres

import (
	"bytes"
	"encoding/base64"
	"unicode/utf8"
)

// encoder writes values as JSON. It is not safe for concurrent use.
type encoder struct {
	// lossy is set where bytes that are no valid UTF-8 became U+FFFD. Whoever
	// wants to know of one value clears it before.
	lossy bool

	nest    []byte // room for isJSON
	scratch []byte // array elements without their quoting
}

// value appends the text of a value, as the server prints it, in its form. A
// text that is not what its form expects is written as a string.
func (e *encoder) value(dst []byte, f *form, text []byte) []byte {
	switch f.kind {
	case formText:
	case formBool:
		if len(text) == 1 && text[0] == 't' {
			return append(dst, "true"...)
		}
		if len(text) == 1 && text[0] == 'f' {
			return append(dst, "false"...)
		}
	case formNumber:
		if isJSONNumber(text) {
			return append(dst, text...)
		}
	case formJSON:
		if isJSON(text, &e.nest) {
			if utf8.Valid(text) {
				return append(dst, text...)
			}
			e.lossy = true
			return appendValid(dst, text)
		}
	case formBytea:
		if p, ok := appendBytea(dst, text); ok {
			return p
		}
	case formTimestamp:
		if n := timestampLen(text); n > 0 && n == len(text) {
			return append(appendTimestamp(append(dst, '"'), text), '"')
		}
	case formTimestamptz:
		if n := timestampLen(text); n > 0 && string(text[n:]) == "+00" {
			return append(appendTimestamp(append(dst, '"'), text[:n]), 'Z', '"')
		}
	case formArray:
		if p, ok := e.array(dst, f, text); ok {
			return p
		}
	}
	return e.string(dst, text)
}

func (e *encoder) string(dst, text []byte) []byte {
	dst, lossy := appendJSONString(dst, text)
	e.lossy = e.lossy || lossy
	return dst
}

// appendBytea appends a bytea in the server's hexadecimal output as a base64
// string; false where it is not in that form.
func appendBytea(dst, text []byte) ([]byte, bool) {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	if len(text) < 2 || text[0] != '\\' || text[1] != 'x' || len(text)%2 != 0 {
		return nil, false
	}
	for _, c := range text[2:] {
		if !isHex(c) {
			return nil, false
		}
	}
	octet := func(at []byte) uint32 { return uint32(unhex(at[0])<<4 | unhex(at[1])) }
	dst = append(dst, '"')
	s := text[2:]
	for ; len(s) >= 6; s = s[6:] {
		v := octet(s)<<16 | octet(s[2:])<<8 | octet(s[4:])
		dst = append(dst, digits[v>>18], digits[v>>12&63], digits[v>>6&63], digits[v&63])
	}
	switch len(s) {
	case 4:
		v := octet(s)<<16 | octet(s[2:])<<8
		dst = append(dst, digits[v>>18], digits[v>>12&63], digits[v>>6&63], '=')
	case 2:
		v := octet(s) << 16
		dst = append(dst, digits[v>>18], digits[v>>12&63], '=', '=')
	}
	return append(dst, '"'), true
}

// timestampLen is the length of the timestamp 2026-11-20 12:00:00.123456, with
// or without a fraction, that s begins with; 0 where it begins with none, as do
// infinity and years past 9999. What follows it is the caller's to judge: a
// zone, or BC.
func timestampLen(s []byte) int {
	const shape = "dddd-dd-dd dd:dd:dd"
	if len(s) < len(shape) {
		return 0
	}
	for i := range len(shape) {
		if shape[i] == 'd' && !isDigit(s[i]) || shape[i] != 'd' && shape[i] != s[i] {
			return 0
		}
	}
	if len(s) == len(shape) || s[len(shape)] != '.' {
		return len(shape)
	}
	return max(0, digitsEnd(s, len(shape)+1))
}

func appendTimestamp(dst, s []byte) []byte {
	const date = len("2026-11-20")
	return append(append(append(dst, s[:date]...), 'T'), s[date+1:]...)
}

// maxDimensions is the server's own bound.
const maxDimensions = 6

// array appends an array in the server's output form as JSON arrays nested by
// dimension; false where it is not in that form.
func (e *encoder) array(dst []byte, f *form, s []byte) ([]byte, bool) {
	if len(s) > 0 && s[0] == '[' { // [0:1][-2:0]={…}
		bounds, elements, found := bytes.Cut(s, []byte("="))
		for _, c := range bounds {
			if !isDigit(c) && c != '[' && c != ']' && c != ':' && c != '-' && c != '+' {
				return nil, false
			}
		}
		if !found {
			return nil, false
		}
		s = elements
	}
	depth := 0
	opened, ended := false, false // what stands before i: a brace, an element
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '}' && (ended || opened):
			dst = append(dst, ']')
			i++
			if depth--; depth == 0 {
				return dst, i == len(s)
			}
			opened, ended = false, true
			continue
		case ended:
			if c != f.delim {
				return nil, false
			}
			dst = append(dst, ',')
			opened, ended = false, false
			i++
			continue
		case c == '{':
			if depth++; depth > maxDimensions {
				return nil, false
			}
			dst = append(dst, '[')
			opened = true
			i++
			continue
		case depth == 0:
			return nil, false
		case c == '"':
			var end int
			if dst, end = e.quoted(dst, f, s[i+1:]); end < 0 {
				return nil, false
			}
			i += 1 + end
		default:
			n := unquotedLen(s[i:], f.delim)
			if n == 0 {
				return nil, false
			}
			if text := s[i : i+n]; string(text) == "NULL" {
				dst = append(dst, "null"...)
			} else {
				dst = e.value(dst, f.element, text)
			}
			i += n
		}
		opened, ended = false, true
	}
	return nil, false
}

// quoted appends the array element whose opening quote stands before s, and
// returns where in s it ends; -1 where it does not.
func (e *encoder) quoted(dst []byte, f *form, s []byte) ([]byte, int) {
	plain := bytes.IndexAny(s, `"\`)
	if plain < 0 {
		return dst, -1
	}
	if s[plain] == '"' {
		return e.value(dst, f.element, s[:plain]), plain + 1
	}
	// An element may be an array again (of a domain over one): what it unquotes
	// goes behind what is here.
	mark := len(e.scratch)
	defer func() { e.scratch = e.scratch[:mark] }()
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			return e.value(dst, f.element, e.scratch[mark:]), i + 1
		case '\\':
			if i++; i == len(s) {
				return dst, -1
			}
		}
		e.scratch = append(e.scratch, s[i])
	}
	return dst, -1
}

// unquotedLen is the length of the array element without quotes that s begins
// with; 0 where there is none.
func unquotedLen(s []byte, delim byte) int {
	for i, c := range s {
		switch c {
		case delim, '}':
			return i
		case '{', '"', '\\':
			return 0
		}
	}
	return 0
}

// appendBase64 appends bytes as a JSON string in base64.
func appendBase64(dst, p []byte) []byte {
	return append(base64.StdEncoding.AppendEncode(append(dst, '"'), p), '"')
}
