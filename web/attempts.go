package web

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/rowcall/rowcall/api/client"
)

const attemptsLimit = 50

type attemptsView struct {
	Rows     []attemptRow
	Query    client.AttemptQuery
	Names    map[string]string // of subscriptions
	Filtered bool
	First    bool
	Home     string
	Next     string
}

// attempts lists HTTP tries, newest first.
func attempts(v *visit) error {
	q := v.URL.Query()
	query := client.AttemptQuery{
		PageQuery:    client.PageQuery{Limit: attemptsLimit, Cursor: q.Get("cursor")},
		Subscription: q.Get("subscription"), Event: strings.TrimSpace(q.Get("event")), Outcome: q.Get("outcome"),
	}
	found, err := v.api.Attempts(v.Context(), query)
	if err != nil {
		return err
	}
	view := attemptsView{
		Query: query, Filtered: query.Subscription+query.Event+query.Outcome != "",
		First: query.Cursor == "", Home: firstPage(v.URL), Next: nextPage(v.URL, found.NextCursor),
	}
	for _, a := range found.Items {
		view.Rows = append(view.Rows, attemptRows([]client.Attempt{a})...) // the next is of another event
	}
	if view.Names, err = v.names(); err != nil {
		return err
	}
	return v.render("attempts", "attempts", "Attempts", view)
}

// attemptRow is a try with what is kept of its answer.
type attemptRow struct {
	client.Attempt
	Waited  time.Duration // since the try before; 0: the first, or not known
	Same    bool          // the answer of the try before said the same
	Diff    []diffLine    // how its body differs from that of the try before; nil: there is none to compare
	Phases  []phase       // where its time went; nil: not known
	Error   string
	Headers map[string]string
	Body    string
}

// attemptRows reads the details of tries that are listed newest first.
func attemptRows(of []client.Attempt) []attemptRow {
	rows := make([]attemptRow, len(of))
	for i, a := range of {
		rows[i].Attempt = a
		var detail struct {
			Error   string            `json:"error"`
			Headers map[string]string `json:"headers"`
			Body    string            `json:"body"`
		}
		if len(a.Detail) > 0 && json.Unmarshal(a.Detail, &detail) == nil {
			rows[i].Error, rows[i].Headers, rows[i].Body = detail.Error, detail.Headers, detail.Body
		}
		rows[i].Phases = phases(a.Timings, a.DurationMS)
	}
	for i := range rows {
		if i+1 == len(rows) || rows[i].Subscription != rows[i+1].Subscription {
			continue
		}
		before := &rows[i+1]
		rows[i].Waited = rows[i].At.Sub(before.At)
		rows[i].Same = rows[i].Status == before.Status && rows[i].Reason == before.Reason && rows[i].Body == before.Body && rows[i].Outcome == before.Outcome
		if rows[i].Body != before.Body && rows[i].Body != "" && before.Body != "" {
			rows[i].Diff = diffLines(before.Body, rows[i].Body)
		}
	}
	return rows
}

// phase is a stage as part of a bar of 1,000 units.
type phase struct {
	Name   string
	MS     float64
	X, Wid float64
}

// Class is the name as a class.
func (p phase) Class() string { return strings.ReplaceAll(p.Name, " ", "-") }

// phases lays the stages of a try out, one behind the other.
func phases(t client.Timings, total float64) []phase {
	if t == (client.Timings{}) || total <= 0 {
		return nil
	}
	var list []phase
	at := 0.0
	add := func(name string, ms float64) {
		if ms <= 0 || at >= total {
			return
		}
		ms = min(ms, total-at)
		list = append(list, phase{name, ms, 1000 * at / total, max(4, 1000*ms/total)})
		at += ms
	}
	known := func(ms *float64) float64 {
		if ms == nil {
			return 0
		}
		return *ms
	}
	add("DNS", known(t.DNS))
	add("connect", known(t.Connect))
	add("TLS", known(t.TLS))
	if first := known(t.FirstByte); first > at {
		add("first byte", first-at)
		add("rest", total-at)
	} else {
		add("no answer", total-at)
	}
	return list
}

// diffLine is a line of two texts: in both (" "), in the first alone ("-"), in
// the second alone ("+").
type diffLine struct{ Sign, Text string }

// maxDiffLines bounds the work of a comparison, which grows with its square.
const maxDiffLines = 200

// diffLines says how a text became another. JSON is compared member by member.
func diffLines(before, after string) []diffLine {
	a, b := comparableLines(before), comparableLines(after)
	common := make([][]int, len(a)+1) // length of the longest common part of what follows
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = 1 + common[i+1][j+1]
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var list []diffLine
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			list = append(list, diffLine{" ", a[i]})
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1]:
			list = append(list, diffLine{"-", a[i]})
			i++
		default:
			list = append(list, diffLine{"+", b[j]})
			j++
		}
	}
	return list
}

// comparableLines are the lines of a text, of JSON one a member.
func comparableLines(text string) []string {
	var all strings.Builder
	for _, t := range jsonTokens([]byte(text)) {
		all.WriteString(t.Text)
	}
	list := strings.Split(all.String(), "\n")
	return list[:min(len(list), maxDiffLines)]
}
