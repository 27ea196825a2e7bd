package postgres

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzJSONString(f *testing.F) {
	f.Add([]byte("12345678\"\\/\b\f\n\r\t\x00\x1f \x7f<>&\u2028\u2029\ufffdé😀\xff\xed\xa0\x80"))
	f.Add([]byte("\x80\x22\x5c\x1f\xa0\x5d\x23\x21"))
	f.Fuzz(func(t *testing.T, s []byte) {
		var want bytes.Buffer
		encoder := json.NewEncoder(&want)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(string(s)); err != nil {
			t.Fatal(err)
		}
		got, lossy := appendJSONString(nil, s)
		if string(got)+"\n" != want.String() {
			t.Errorf("%q is %s, want %s", s, got, want.String())
		}
		if lossy == utf8.Valid(s) {
			t.Errorf("%q: lossy is %t", s, lossy)
		}
	})
}

func TestEveryByteAtEveryPlaceOfAStringIsEscaped(t *testing.T) {
	t.Parallel()
	for c := range 256 {
		for at := range 20 {
			s := []byte("abcdefghijklmnopqrst")
			s[at] = byte(c)
			s[19-at] = ' '
			got, _ := appendJSONString(nil, s)
			var back string
			if err := json.Unmarshal(got, &back); err != nil || back != string([]rune(string(s))) {
				t.Fatalf("byte %#x at %d: %s came back as %q: %v", c, at, got, back, err)
			}
		}
	}
}

func FuzzIsJSON(f *testing.F) {
	for _, s := range []string{
		`{"a":[1,2.5e-3,{"b":null}],"c":true,"d":"\u0000\n"}`, "[]", "{}", " 1 ", "-0", "01", "1.", "1e", "[1,]", "{,}", `{"a"}`, `{"a":1,}`,
		"\"\t\"", "nul", "tru e", "[[[", "]]", `"\x"`, `"\u12"`, "{\"a\":1}}", "\"\xff\"", "[1}", "{1:2}", "",
	} {
		f.Add([]byte(s))
	}
	var nest []byte
	f.Fuzz(func(t *testing.T, s []byte) {
		if got, want := isJSON(s, &nest), json.Valid(s); got != want && len(s) < 9000 {
			t.Errorf("%q is JSON: %t, want %t", s, got, want)
		}
	})
}

func TestDepthOfJSONIsNotBounded(t *testing.T) {
	t.Parallel()
	const depth = 200_000
	deep := strings.Repeat(`[{"a":`, depth) + "1" + strings.Repeat("}]", depth)
	var nest []byte
	if !isJSON([]byte(deep), &nest) {
		t.Error("a deep value is no JSON")
	}
	if isJSON([]byte(deep[:len(deep)-1]), &nest) {
		t.Error("a deep value that is not closed is JSON")
	}
}

func TestNamesAndValuesAreEncodedForKeys(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"orders":              "orders",
		"Weird.Name":          "Weird%2EName",
		"a_b-c$9Z":            "a_b-c$9Z",
		"a=b,c/d%e f*":        "a%3Db%2Cc%2Fd%25e%20f%2A",
		"été😀":                "été😀",
		"\x00\x1f\x7f":        "%00%1F%7F",
		"bad\xff\xe9":         "bad%FF%E9",
		"\u0085\u2028":        "\u0085\u2028",
		"":                    "",
		"{\"a\":[1]}":         "%7B%22a%22%3A%5B1%5D%7D",
		"2026-11-20 12:00:00": "2026-11-20%2012%3A00%3A00",
	} {
		got := string(appendEncoded(nil, []byte(in)))
		if got != want || !utf8.ValidString(got) {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}
