package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// printJSON writes a value for programs.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// table writes rows in columns. What is empty shows as -.
func table(w io.Writer, header []string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = clean(cell)
		}
		fmt.Fprintln(t, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
	}
	return t.Flush()
}

// fields writes one thing, a line for each of its members.
func fields(w io.Writer, pairs ...[2]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, pair := range pairs {
		fmt.Fprintf(t, "%s\t%s\n", pair[0], clean(pair[1]))
	}
	return t.Flush()
}

// clean makes a text fit for a terminal: one line, and nothing that the
// terminal would obey. Keys and names come from rows that others wrote.
func clean(text string) string {
	if text == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\u2028' || r == '\u2029' || r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069' {
			return '\ufffd'
		}
		return r
	}, text)
}

// moment writes a time in UTC, to the second.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

// optionalMoment writes a time that may be missing.
func optionalMoment(t *time.Time) string {
	if t == nil {
		return ""
	}
	return moment(*t)
}

// optionalWord writes a word that may be missing.
func optionalWord(word *string) string {
	if word == nil {
		return ""
	}
	return *word
}

// offsetText writes a sequence without its leading zeros.
func offsetText(sequence string) string {
	if text := strings.TrimLeft(sequence, "0"); text != "" {
		return text
	}
	return sequence
}

// bytesText writes a number of bytes for people.
func bytesText(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	value := float64(n)
	for i, unit := range units {
		if value < 1024 || i == len(units)-1 {
			if i == 0 {
				return fmt.Sprintf("%d B", n)
			}
			return fmt.Sprintf("%.1f %s", value, unit)
		}
		value /= 1024
	}
	return ""
}
