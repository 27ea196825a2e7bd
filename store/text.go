package store

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// cleanText makes s fit for a column of type text: PostgreSQL refuses NUL and
// invalid UTF-8. What does not fit becomes U+FFFD.
func cleanText(s string) string {
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "\uFFFD")
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// cleanJSON makes raw fit for a column of type jsonb, which refuses NUL and
// lone surrogates where JSON has them as escapes. What is not JSON at all
// becomes a JSON string. Empty stays empty.
func cleanJSON(raw []byte) []byte {
	if len(raw) == 0 || utf8.Valid(raw) && !bytes.Contains(raw, []byte(`\u`)) && json.Valid(raw) {
		return raw
	}
	var value any = string(raw)
	if json.Valid(raw) {
		decoder := json.NewDecoder(bytes.NewReader(raw))
		decoder.UseNumber() // keeps every digit
		if err := decoder.Decode(&value); err != nil {
			value = string(raw)
		}
	}
	clean, err := json.Marshal(cleanValue(value))
	if err != nil {
		panic("marshal of what was unmarshalled: " + err.Error())
	}
	return clean
}

func cleanValue(value any) any {
	switch v := value.(type) {
	case string:
		return cleanText(v)
	case []any:
		for i := range v {
			v[i] = cleanValue(v[i])
		}
	case map[string]any:
		clean := make(map[string]any, len(v))
		for key, member := range v {
			clean[cleanText(key)] = cleanValue(member)
		}
		return clean
	}
	return value
}

// textArray is the literal of a text[]. Arrays of different lengths cannot be
// passed as one parameter: unnest would flatten them.
func textArray(texts []string) string {
	b := []byte{'{'}
	for i, text := range texts {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		for _, c := range []byte(cleanText(text)) {
			if c == '"' || c == '\\' {
				b = append(b, '\\')
			}
			b = append(b, c)
		}
		b = append(b, '"')
	}
	return string(append(b, '}'))
}
