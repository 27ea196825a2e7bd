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

// maxShown bounds what a page shows of a payload, in bytes; the whole is in the
// API's answer.
const maxShown = 256 << 10

// jsonTokens indents JSON and cuts it into tokens. What is not JSON is one.
func jsonTokens(raw []byte) []token {
	cut := len(raw) > maxShown
	var indented bytes.Buffer
	if cut || json.Indent(&indented, raw, "", "  ") != nil {
		text := raw
		if cut {
			text = raw[:maxShown]
		}
		tokens := []token{{"", strings.ToValidUTF8(string(text), "\uFFFD")}}
		if cut {
			tokens = append(tokens, token{"word", "\n… " + size(int64(len(raw)-maxShown)) + " more: GET /v1/events/{id} has all of it"})
		}
		return tokens
	}
	var tokens []token
	text := indented.String()
	for at := 0; at < len(text); {
		end, class := scanToken(text, at)
		if n := len(tokens); n > 0 && tokens[n-1].Class == class {
			tokens[n-1].Text += text[at:end]
		} else {
			tokens = append(tokens, token{class, text[at:end]})
		}
		at = end
	}
	return tokens
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
