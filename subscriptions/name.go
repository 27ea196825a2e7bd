package subscriptions

import "unicode/utf8"

// plain says which ASCII bytes a segment of an event type holds as they are:
// letters, digits and "_-$". All others are percent-encoded, "." and "*" among
// them, so that a name can neither split into segments nor act as a wildcard.
var plain = [128]bool{
	'$': true, '-': true, '_': true,
	'0': true, '1': true, '2': true, '3': true, '4': true, '5': true, '6': true, '7': true, '8': true, '9': true,
	'A': true, 'B': true, 'C': true, 'D': true, 'E': true, 'F': true, 'G': true, 'H': true, 'I': true, 'J': true,
	'K': true, 'L': true, 'M': true, 'N': true, 'O': true, 'P': true, 'Q': true, 'R': true, 'S': true, 'T': true,
	'U': true, 'V': true, 'W': true, 'X': true, 'Y': true, 'Z': true,
	'a': true, 'b': true, 'c': true, 'd': true, 'e': true, 'f': true, 'g': true, 'h': true, 'i': true, 'j': true,
	'k': true, 'l': true, 'm': true, 'n': true, 'o': true, 'p': true, 'q': true, 'r': true, 's': true, 't': true,
	'u': true, 'v': true, 'w': true, 'x': true, 'y': true, 'z': true,
}

const upperHex = "0123456789ABCDEF"

// EncodeName writes the name of a schema or table as it stands in event types
// and patterns: "Weird.Name" is "Weird%2EName". Unicode beyond ASCII stays;
// bytes that are no valid UTF-8 are percent-encoded, so that the result always
// is, and different names stay different.
func EncodeName(name string) string {
	for i := range len(name) {
		if c := name[i]; c >= utf8.RuneSelf || !plain[c] {
			return string(AppendName(make([]byte, 0, len(name)+8), name))
		}
	}
	return name
}

// AppendName appends the encoded name to dst.
func AppendName(dst []byte, name string) []byte {
	for i := 0; i < len(name); {
		c := name[i]
		if c < utf8.RuneSelf && plain[c] {
			dst = append(dst, c)
			i++
			continue
		}
		_, size := utf8.DecodeRuneInString(name[i:])
		if size > 1 {
			dst = append(dst, name[i:i+size]...)
		} else {
			dst = append(dst, '%', upperHex[c>>4], upperHex[c&15])
		}
		i += size
	}
	return dst
}
