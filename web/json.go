package web

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// token is a piece of JSON with what it is, for colours: key, text, number, word,
// or nothing.
type token struct{ Class, Text string }

const (
	// maxShown bounds what a page shows of a payload, in bytes; the whole is in the
	// API's answer.
	maxShown = 256 << 10
	// maxIndented bounds a payload with its indentation, which grows with depth
	// times members.
	maxIndented = 1 << 20
)

// jsonTokens indents JSON, where that does not make too much of it, and cuts it
// into tokens. What is not JSON is one.
func jsonTokens(raw []byte) []token {
	if len(raw) > maxShown {
		return []token{
			{"", strings.ToValidUTF8(string(raw[:maxShown]), "\uFFFD")},
			{"word", "\n… " + size(int64(len(raw)-maxShown)) + " more: GET /v1/events/{id} has all of it"},
		}
	}
	if !json.Valid(raw) {
		return []token{{"", strings.ToValidUTF8(string(raw), "\uFFFD")}}
	}
	text := string(raw)
	var indented bytes.Buffer
	if indentedSize(raw) <= maxIndented && json.Indent(&indented, raw, "", "  ") == nil {
		text = indented.String()
	}
	var tokens []token
	for at := 0; at < len(text); {
		end, class := scanToken(text, at)
		if n := len(tokens); n > 0 && tokens[n-1].Class == class {
			last := &tokens[n-1]
			last.Text = text[at-len(last.Text) : end] // they lie side by side
		} else {
			tokens = append(tokens, token{class, text[at:end]})
		}
		at = end
	}
	return tokens
}

// indentedSize is what valid JSON has at most, in bytes, once it is indented.
func indentedSize(raw []byte) int {
	sum, depth, quoted := len(raw), 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
			sum += 1 + 2*depth
		case c == '}' || c == ']':
			depth--
			sum += 1 + 2*depth
		case c == ',':
			sum += 1 + 2*depth
		case c == ':':
			sum++
		}
	}
	return sum
}

// scanToken returns where the token of valid JSON that begins at a place ends,
// and what it is.
func scanToken(text string, at int) (end int, class string) {
	switch c := text[at]; {
	case c == '"':
		for end = at + 1; text[end] != '"'; end++ {
			if text[end] == '\\' {
				end++
			}
		}
		end++
		if end < len(text) && text[end] == ':' {
			return end, "key"
		}
		return end, "text"
	case c == '-' || c >= '0' && c <= '9':
		return endOf(text, at, "+-.0123456789eE"), "number"
	case c == 't' || c == 'f' || c == 'n':
		return endOf(text, at, "aeflnrstu"), "word"
	default:
		_, n := utf8.DecodeRuneInString(text[at:])
		return at + n, ""
	}
}

// endOf is where a run of letters of a set ends.
func endOf(text string, at int, letters string) int {
	for at < len(text) && strings.IndexByte(letters, text[at]) >= 0 {
		at++
	}
	return at
}
