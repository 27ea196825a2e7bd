package web

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rowcall/rowcall/api/client"
)

// Bounds of an export: it is written as it is read, and ends when whoever asked
// for it stops reading.
const (
	exportPage  = 500
	exportWrite = 30 * time.Second // for a page to be taken
	exportTime  = 30 * time.Minute
)

// exported is a delivery as a line of an export.
type exported struct {
	client.Delivery
	Name string `json:"subscription_name"`
}

// exportDeliveries streams what a filter selects, as JSON lines with payloads or
// as CSV.
func exportDeliveries(v *visit) error {
	f := readFilter(v.URL.Query())
	names, err := v.names()
	if err != nil {
		return err
	}
	format := v.URL.Query().Get("format")
	media := map[string]string{"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl; charset=utf-8"}[format]
	if media == "" {
		return notFound(v)
	}
	query := f.deliveries("")
	query.Limit = exportPage
	page, err := v.api.Deliveries(v.Context(), query)
	if err != nil {
		return err // still as a page that says so
	}
	v.w.Header().Set("Content-Type", media)
	v.w.Header().Set("Content-Disposition", `attachment; filename="deliveries-`+v.now.UTC().Format("20060102-150405")+"."+format+`"`)
	control := http.NewResponseController(v.w)
	out := bufio.NewWriter(v.w)
	write := v.jsonLines(out)
	if format == "csv" {
		write = csvLines(out)
	}
	for {
		_ = control.SetWriteDeadline(time.Now().Add(exportWrite)) // a recorder has none
		for i := range page.Items {
			if err := write(&exported{page.Items[i], names[page.Items[i].Subscription]}); err != nil {
				v.cutOff(err)
			}
		}
		if err := out.Flush(); err != nil {
			v.cutOff(err)
		}
		_ = control.Flush()
		if page.NextCursor == nil {
			return nil
		}
		query.Cursor = *page.NextCursor
		if page, err = v.api.Deliveries(v.Context(), query); err != nil {
			v.cutOff(err)
		}
	}
}

// cutOff ends an answer that has begun: half an export must not look like all.
func (v *visit) cutOff(err error) {
	v.console.log.Warn().Str("path", v.URL.Path).Err(err).Msg("export cut off")
	panic(http.ErrAbortHandler)
}

func (v *visit) jsonLines(out *bufio.Writer) func(*exported) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	return func(e *exported) error {
		if e.Event != nil {
			whole, err := v.api.Delivery(v.Context(), e.ID)
			if err == nil {
				e.Event = whole.Event
			} else if p, ok := errors.AsType[*client.Problem](err); !ok || p.Type != client.NotFound {
				return fmt.Errorf("read payload: %w", err)
			}
		}
		return encoder.Encode(e)
	}
}

func csvLines(out *bufio.Writer) func(*exported) error {
	w := csv.NewWriter(out)
	header := []string{
		"id", "subscription", "subscription_name", "state", "reason", "status", "error", "attempts", "first_failed_at", "due_at", "updated_at",
		"event", "type", "subject", "keys", "committed_at", "offset",
	}
	first := true
	return func(e *exported) error {
		if first {
			first = false
			if err := w.Write(header); err != nil {
				return err
			}
		}
		event := client.Event{}
		if e.Event != nil {
			event = *e.Event
		}
		row := []string{
			e.ID, e.Subscription, e.Name, e.State, e.Reason, strconv.Itoa(e.Status), e.Error, strconv.Itoa(e.Attempts),
			stampOf(e.FirstFailedAt), stampOf(e.DueAt), stampOf(&e.UpdatedAt),
			event.ID, event.Type, event.Subject, strings.Join(e.Keys, " "), stampOf(&event.Time), e.Sequence,
		}
		for i := range row {
			row[i] = inert(row[i])
		}
		if err := w.Write(row); err != nil {
			return err
		}
		w.Flush()
		return w.Error()
	}
}

// inert keeps a spreadsheet from taking a text for a formula.
func inert(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return "'" + text
	}
	return text
}

func stampOf(t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
