package postgres

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

const (
	lowerHex = "0123456789abcdef"
	upperHex = "0123456789ABCDEF"
)

// plainLen is how many bytes s begins with that a JSON string holds as they
// are and that are ASCII.
func plainLen(s []byte) int {
	const (
		ones  = 0x0101010101010101
		highs = 0x80 * ones
	)
	i := 0
	for ; i+8 <= len(s); i += 8 {
		// A byte's high bit is set in the sum of these where the byte is not
		// ASCII, below a space, a quote or a backslash. A borrow reaches only
		// bytes above one that was found, and the lowest is what counts.
		w := binary.LittleEndian.Uint64(s[i:])
		if m := (w | (w - ' '*ones) | ((w ^ '"'*ones) - ones) | ((w ^ '\\'*ones) - ones)) & highs; m != 0 {
			return i + bits.TrailingZeros64(m)/8
		}
	}
	for ; i < len(s); i++ {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			break
		}
	}
	return i
}

// appendJSONString appends s as a JSON string, with the same bytes that
// encoding/json writes when it does not escape HTML: each byte that is no valid
// UTF-8 as U+FFFD. It reports whether there was one.
func appendJSONString(dst, s []byte) (_ []byte, lossy bool) {
	dst = append(dst, '"')
	for {
		n := plainLen(s)
		dst = append(dst, s[:n]...)
		s = s[n:]
		if len(s) == 0 {
			return append(dst, '"'), lossy
		}
		c := s[0]
		if c < utf8.RuneSelf {
			dst = appendEscape(dst, c)
			s = s[1:]
			continue
		}
		for len(s) > 0 && s[0] >= utf8.RuneSelf {
			r, size := utf8.DecodeRune(s)
			switch {
			case r == utf8.RuneError && size == 1:
				dst = append(dst, `\ufffd`...)
				lossy = true
			case r == '\u2028' || r == '\u2029':
				// Valid in JSON, but not in older JavaScript.
				dst = append(dst, `\u202`...)
				dst = append(dst, lowerHex[r&15])
			default:
				dst = append(dst, s[:size]...)
			}
			s = s[size:]
		}
	}
}

func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, `\b`...)
	case '\f':
		return append(dst, `\f`...)
	case '\n':
		return append(dst, `\n`...)
	case '\r':
		return append(dst, `\r`...)
	case '\t':
		return append(dst, `\t`...)
	default:
		return append(dst, '\\', 'u', '0', '0', lowerHex[c>>4], lowerHex[c&15])
	}
}

// appendValid appends s with each byte that is no valid UTF-8 as U+FFFD.
func appendValid(dst, s []byte) []byte {
	for len(s) > 0 {
		r, size := utf8.DecodeRune(s)
		if r == utf8.RuneError && size == 1 {
			dst = utf8.AppendRune(dst, r)
		} else {
			dst = append(dst, s[:size]...)
		}
		s = s[size:]
	}
	return dst
}

// isJSONNumber reports whether s is a number as JSON writes them.
func isJSONNumber(s []byte) bool { return len(s) > 0 && numberEnd(s, 0) == len(s) }

// isJSON reports whether s is one JSON value by RFC 8259, with any white space
// around it, at any depth. It does not look at the encoding of strings. nest is
// room to work in.
func isJSON(s []byte, nest *[]byte) bool {
	end := valueEnd(s, 0, nest)
	return end >= 0 && skipSpace(s, end) == len(s)
}

// valueEnd is where the JSON value that begins at i, or after white space
// there, ends; -1 where there is none. It does not recurse: nothing bounds how
// deep a json column is.
func valueEnd(s []byte, i int, nest *[]byte) int {
	open := (*nest)[:0]
	defer func() { *nest = open[:0] }()
	for {
		if i = skipSpace(s, i); i == len(s) {
			return -1
		}
		switch c := s[i]; c {
		case '{', '[':
			i = skipSpace(s, i+1)
			if i < len(s) && s[i] == c+2 { // '}' and ']' stand two after their partners
				i++
				break
			}
			open = append(open, c)
			if c == '{' {
				if i = nameEnd(s, i); i < 0 {
					return -1
				}
			}
			continue
		case '"':
			i = stringEnd(s, i)
		case 't':
			i = literalEnd(s, i, "true")
		case 'f':
			i = literalEnd(s, i, "false")
		case 'n':
			i = literalEnd(s, i, "null")
		default:
			i = numberEnd(s, i)
		}
		if i < 0 {
			return -1
		}
		for {
			if len(open) == 0 {
				return i
			}
			if i = skipSpace(s, i); i == len(s) {
				return -1
			}
			top := open[len(open)-1]
			if s[i] == ',' {
				break
			}
			if s[i] != top+2 {
				return -1
			}
			open = open[:len(open)-1]
			i++
		}
		i++
		if open[len(open)-1] == '{' {
			if i = nameEnd(s, i); i < 0 {
				return -1
			}
		}
	}
}

func skipSpace(s []byte, i int) int {
	for i < len(s) && (s[i] == ' ' || s[i] == '\n' || s[i] == '\r' || s[i] == '\t') {
		i++
	}
	return i
}

// nameEnd is where the value begins whose member's name is at i.
func nameEnd(s []byte, i int) int {
	i = skipSpace(s, i)
	if i == len(s) || s[i] != '"' {
		return -1
	}
	if i = stringEnd(s, i); i < 0 {
		return -1
	}
	if i = skipSpace(s, i); i == len(s) || s[i] != ':' {
		return -1
	}
	return i + 1
}

// stringEnd is where the string whose quote is at i ends.
func stringEnd(s []byte, i int) int {
	for i++; ; {
		i += plainLen(s[i:])
		switch {
		case i == len(s):
			return -1
		case s[i] == '"':
			return i + 1
		case s[i] >= utf8.RuneSelf:
			i++
		case s[i] != '\\' || i+1 == len(s):
			return -1
		case s[i+1] == 'u':
			if i+6 > len(s) || !isHex(s[i+2]) || !isHex(s[i+3]) || !isHex(s[i+4]) || !isHex(s[i+5]) {
				return -1
			}
			i += 6
		default:
			switch s[i+1] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
				i += 2
			default:
				return -1
			}
		}
	}
}

func literalEnd(s []byte, i int, literal string) int {
	if len(s)-i < len(literal) || string(s[i:i+len(literal)]) != literal {
		return -1
	}
	return i + len(literal)
}

func numberEnd(s []byte, i int) int {
	if i < len(s) && s[i] == '-' {
		i++
	}
	switch {
	case i == len(s):
		return -1
	case s[i] == '0':
		i++
	default:
		if i = digitsEnd(s, i); i < 0 {
			return -1
		}
	}
	if i < len(s) && s[i] == '.' {
		if i = digitsEnd(s, i+1); i < 0 {
			return -1
		}
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		i++
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		return digitsEnd(s, i)
	}
	return i
}

// digitsEnd is where the digits at i end, of which there must be one.
func digitsEnd(s []byte, i int) int {
	first := i
	for i < len(s) && isDigit(s[i]) {
		i++
	}
	if i == first {
		return -1
	}
	return i
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isHex(c byte) bool { return unhex(c) < 16 }

// unhex is the value of a hexadecimal digit; 0xff of what is none.
func unhex(c byte) byte {
	switch {
	case isDigit(c):
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	default:
		return 0xff
	}
}
