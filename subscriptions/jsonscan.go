package subscriptions

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"
)

var errNotJSON = errors.New("is not valid JSON")

// skipSpace returns where the next token begins.
func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skipString returns where the string whose quote is at i ends.
func skipString(b []byte, i int) (int, error) {
	for i++; i < len(b); {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			break
		}
		i += n
		slashes := 0
		for b[i-1-slashes] == '\\' { // ends at the opening quote
			slashes++
		}
		if i++; slashes%2 == 0 {
			return i, nil
		}
	}
	return 0, errNotJSON
}

// skipValue returns where the value that begins at i ends. It looks for the end
// alone: that the text is valid JSON was seen when it was appended to the log.
// It does not recurse, however deep the value is.
func skipValue(b []byte, i int) (int, error) {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case '"':
			end, err := skipString(b, i)
			if err != nil {
				return 0, err
			}
			i = end
		case '{', '[':
			depth++
			i++
			continue
		case '}', ']':
			depth--
			i++
		case ',', ':', ' ', '\n', '\t', '\r':
			if depth == 0 {
				return 0, errNotJSON
			}
			i++
			continue
		default:
			for i < len(b) && !isJSONEnd(b[i]) {
				i++
			}
		}
		if depth == 0 {
			return i, nil
		}
		if depth < 0 {
			break
		}
	}
	return 0, errNotJSON
}

func isJSONEnd(c byte) bool {
	switch c {
	case ',', ':', '}', ']', '{', '[', '"', ' ', '\n', '\t', '\r':
		return true
	}
	return false
}

// eachMember calls f with each member of the object b, its name decoded (it may
// share memory with b) and its value as it stands, until f returns an error.
func eachMember(b []byte, f func(name, value []byte) error) error {
	i := skipSpace(b, 0)
	if i == len(b) || b[i] != '{' {
		return errNotJSON
	}
	if i = skipSpace(b, i+1); i < len(b) && b[i] == '}' {
		return nil
	}
	for i < len(b) && b[i] == '"' {
		end, err := skipString(b, i)
		if err != nil {
			return err
		}
		name := b[i+1 : end-1]
		if bytes.IndexByte(name, '\\') >= 0 {
			text, err := unquoteJSON(b[i:end])
			if err != nil {
				return err
			}
			name = []byte(text)
		}
		if i = skipSpace(b, end); i == len(b) || b[i] != ':' {
			return errNotJSON
		}
		i = skipSpace(b, i+1)
		if end, err = skipValue(b, i); err != nil {
			return err
		}
		if err := f(name, b[i:end]); err != nil {
			return err
		}
		if i = skipSpace(b, end); i == len(b) {
			break
		}
		if b[i] == '}' {
			return nil
		}
		if b[i] != ',' {
			break
		}
		i = skipSpace(b, i+1)
	}
	return errNotJSON
}

// eachElement calls f with each element of the array b.
func eachElement(b []byte, f func(value []byte)) error {
	i := skipSpace(b, 0)
	if i == len(b) || b[i] != '[' {
		return errNotJSON
	}
	if i = skipSpace(b, i+1); i < len(b) && b[i] == ']' {
		return nil
	}
	for i < len(b) {
		end, err := skipValue(b, i)
		if err != nil {
			return err
		}
		f(b[i:end])
		if i = skipSpace(b, end); i == len(b) {
			break
		}
		if b[i] == ']' {
			return nil
		}
		if b[i] != ',' {
			break
		}
		i = skipSpace(b, i+1)
	}
	return errNotJSON
}

// members counts the members of an object, those of one name each by itself.
func members(b []byte) int {
	n, depth := 1, 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			end, err := skipString(b, i)
			if err != nil {
				return n
			}
			i = end - 1
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case ',':
			if depth == 1 {
				n++
			}
		}
	}
	return n
}

// nestedWork is the bytes that are read where a value is opened level by level:
// each byte counts as often as it is nested. It stops beyond most.
func nestedWork(b []byte, most int) int {
	work, depth := 0, 0
	for i := 0; i < len(b) && work <= most; {
		at := i
		i++
		switch b[at] {
		case '"':
			end, err := skipString(b, at)
			if err != nil {
				return work
			}
			i = end
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		work += depth * (i - at)
	}
	return work
}

// unquoteJSON decodes a JSON string with its quotes. Lone surrogates become
// U+FFFD, as everywhere in Go.
func unquoteJSON(b []byte) (string, error) {
	if len(b) < 2 || b[0] != '"' || b[len(b)-1] != '"' {
		return "", errNotJSON
	}
	text := b[1 : len(b)-1]
	if bytes.IndexByte(text, '\\') < 0 {
		if utf8.Valid(text) {
			return string(text), nil
		}
		return strings.ToValidUTF8(string(text), "\uFFFD"), nil
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return "", errNotJSON
	}
	return s, nil
}
