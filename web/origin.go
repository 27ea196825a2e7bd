package web

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/rowcall/rowcall/api/client"
)

// origin is where an event comes from; what is empty is not known.
type origin struct {
	Source, Table, Key string
	XID, LSN, Place    string // transaction, where it was committed, which of its changes this is
	Context            []setting
}

// originOf reads it from the event's own words.
func originOf(e *client.Event) origin {
	var o origin
	if name, ok := strings.CutPrefix(e.Source, "/sources/"); ok && name != "http" && !strings.Contains(name, "/") {
		o.Source = name
	}
	var data struct {
		Schema string          `json:"schema"`
		Table  string          `json:"table"`
		Key    json.RawMessage `json:"key"`
		TX     struct {
			XID     *json.Number    `json:"xid"`
			LSN     string          `json:"lsn"`
			Ordinal *int64          `json:"ordinal"`
			Context json.RawMessage `json:"context"`
		} `json:"tx"`
	}
	if json.Unmarshal(e.Data, &data) != nil {
		return o
	}
	if data.Table != "" {
		o.Table = data.Schema + "." + data.Table
	}
	for _, m := range memberChanges(nil, data.Key) {
		o.Key = strings.TrimPrefix(o.Key+", "+m.Name+" = "+m.After, ", ")
	}
	if data.TX.XID != nil {
		o.XID = data.TX.XID.String()
	}
	o.LSN = data.TX.LSN
	if data.TX.Ordinal != nil {
		o.Place = strconv.FormatInt(*data.TX.Ordinal+1, 10)
	}
	for _, m := range memberChanges(nil, data.TX.Context) {
		o.Context = append(o.Context, setting{m.Name, m.After})
	}
	return o
}
