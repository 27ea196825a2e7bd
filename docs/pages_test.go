package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// block is a fenced block of a page, with the comment in the line above it, which
// says what the tests do with it:
//
//	run: background NAME   start it and leave it running
//	run: until shown       again and again, until the output is as shown
//	run: until done        again and again, until it succeeds
//	run: until captured T  once table T is captured
//	shows, shows: NAME     the output of the block before, or of NAME: lines in this order,
//	                       … stands for anything
//	delivers               the event that this made, … for any value
//	subscription           the API takes it, beside the members that are required
//	file: PATH             it is that file
//	not run: WHY           nothing
//
// Blocks of sh and sql without a comment are run once.
type block struct {
	page, language, text string
	mark, argument       string
	line                 int
}

var comment = regexp.MustCompile(`^<!-- ([a-z ]+?)(?:: (.*))? -->$`)

// pages are the files that are held to what they say.
func pages(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob("*.md")
	if err != nil || len(found) < 10 {
		t.Fatalf("found %d pages: %v", len(found), err)
	}
	return append(found, "../README.md", "../deploy/README.md")
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// blocks reads the fenced blocks of a page.
func blocks(t *testing.T, page string) []block {
	t.Helper()
	var (
		found []block
		open  *block
		above string
	)
	for n, line := range strings.Split(read(t, page), "\n") {
		fence, fenced := strings.CutPrefix(line, "```")
		switch {
		case open != nil && line == "```":
			found = append(found, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		case fenced:
			open = &block{page: page, language: fence, line: n + 1}
			if m := comment.FindStringSubmatch(above); m != nil {
				open.mark, open.argument = m[1], m[2]
			}
		}
		above = line
	}
	if open != nil {
		t.Fatalf("%s:%d: the block has no end", page, open.line)
	}
	return found
}

// section is the part of a page under a heading, up to the next of its level.
func section(t *testing.T, page, heading string) string {
	t.Helper()
	level := heading[:strings.IndexByte(heading, ' ')+1]
	_, rest, ok := strings.Cut("\n"+read(t, page), "\n"+heading+"\n")
	if !ok {
		t.Fatalf("%s has no %q", page, heading)
	}
	part, _, _ := strings.Cut(rest, "\n"+level)
	return part
}

var firstCell = regexp.MustCompile("(?m)^\\| `([^`]+)`")

// named are the names in the first cells of a section's tables.
func named(t *testing.T, page, heading string) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, m := range firstCell.FindAllStringSubmatch(section(t, page, heading), -1) {
		names[m[1]] = true
	}
	return names
}
