package postgres

import "unicode/utf8"

// isPlain reports whether an ASCII byte stands for itself in event types, keys
// and subjects.
func isPlain(c byte) bool {
	return isDigit(c) || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || c == '-' || c == '$'
}

// appendEncoded appends a name or value in the form of event types, keys and
// subjects: every ASCII byte but letters, digits and "_-$" percent-encoded,
// other Unicode as it is. A byte that is no valid UTF-8 is percent-encoded too:
// the result is always valid, and different bytes stay different.
func appendEncoded(dst, s []byte) []byte {
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if isPlain(c) {
				dst = append(dst, c)
			} else {
				dst = appendPercent(dst, c)
			}
			i++
			continue
		}
		r, size := utf8.DecodeRune(s[i:])
		if r == utf8.RuneError && size == 1 {
			dst = appendPercent(dst, c)
		} else {
			dst = append(dst, s[i:i+size]...)
		}
		i += size
	}
	return dst
}

func appendPercent(dst []byte, c byte) []byte {
	return append(dst, '%', upperHex[c>>4], upperHex[c&15])
}
