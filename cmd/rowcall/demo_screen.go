package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// screen writes the demo's lines, one at a time, in colour on a terminal.
type screen struct {
	mu     sync.Mutex
	out    io.Writer
	colour bool
}

func newScreen(out *os.File) *screen {
	return &screen{out: out, colour: isTerminal(out) && os.Getenv("NO_COLOR") == ""}
}

// The colours of the screen, as ANSI codes.
const (
	bold   = "1"
	dim    = "2"
	green  = "32"
	yellow = "33"
	red    = "31"
)

// paint colours a text.
func (s *screen) paint(code, text string) string {
	if !s.colour || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// print writes whole lines.
func (s *screen) print(lines ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintln(s.out, strings.Join(lines, "\n"))
}

// step says what the demo is doing.
func (s *screen) step(what string) { s.print(s.paint(dim, "· "+what+" …")) }

// note says that something changed.
func (s *screen) note(what string) { s.print(s.paint(yellow, "▸ "+what)) }

// introduce says what runs where, and what to try.
func (s *screen) introduce(address, key, database, receiver string, terminal bool, want int) {
	row := func(name, value string) string { return "  " + s.paint(bold, fmt.Sprintf("%-9s", name)) + " " + value }
	lines := []string{
		"",
		s.paint(bold, "A shop writes rows. rowcall captures them and calls the receiver, which verifies each signature."),
		"",
		row("Postgres", database),
		row("rowcall", address),
		row("receiver", receiver),
		"",
	}
	if want == 0 {
		lines = append(lines,
			"Try next, in another terminal:",
			"",
			"  export ROWCALL_URL="+address+" ROWCALL_API_KEY="+key,
			"  "+program0()+" subscriptions list",
			"  "+program0()+" events list --limit 5",
			`  curl -s -H "Authorization: Bearer $ROWCALL_API_KEY" "$ROWCALL_URL/v1/deliveries"`,
			`  curl -s $ROWCALL_URL/metrics | grep ^rowcall_`)
		if _, err := exec.LookPath("psql"); err == nil {
			lines = append(lines, "  psql '"+database+`' -c "UPDATE customers SET name = 'Alan' WHERE id = 1"`)
		}
		lines = append(lines, "")
	}
	switch {
	case want > 0:
		lines = append(lines, "Ends after "+plural(want, "verified delivery")+".")
	case terminal:
		lines = append(lines, s.paint(bold, "Enter stops the receiver, Enter again starts it: watch rowcall retry and lose nothing. Ctrl-C ends and cleans up."))
	default:
		lines = append(lines, s.paint(bold, "Ctrl-C ends and cleans up."))
	}
	lines = append(lines, "", s.paint(dim, fmt.Sprintf("%-12s  %-26s %-8s %-32s %13s  %s", "received", "event", "key", "what", "since commit", "signature")))
	s.print(lines...)
}

// delivery prints one delivery.
func (s *screen) delivery(l deliveryLine) {
	d := l.delivery
	verdict := s.paint(green, "✓ verified")
	switch {
	case l.fault != nil:
		verdict = s.paint(red, "✗ "+strings.ReplaceAll(l.fault.Error(), "\n", "; "))
	case l.copy:
		verdict = s.paint(yellow, "✓ verified, a copy")
	case d.Attempt > 1:
		verdict += s.paint(dim, fmt.Sprintf(", try %d", d.Attempt))
	}
	s.print(fmt.Sprintf("%s  %-26s %-8s %s %13s  %s", s.paint(dim, d.At.Format("15:04:05.000")), d.Type, d.Subject,
		s.paint(dim, fmt.Sprintf("%-32s", l.what)), since(l.since), verdict))
}

// end says how it ended.
func (s *screen) end(verified int) {
	s.print("", plural(verified, "verified delivery")+"; everything that was started is stopped and removed.")
}

// since writes a duration in the unit that fits it.
func since(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%.1f ms", float64(d)/1e6)
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	default:
		return d.Round(time.Second).String()
	}
}

// program0 is how this program was called.
func program0() string {
	if len(os.Args) == 0 || strings.HasSuffix(os.Args[0], ".test") {
		return "rowcall"
	}
	return os.Args[0]
}
