package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/rowcall/rowcall/api/client"
)

type publishEventCmd struct {
	clientFlags
	Type    string `arg:"" help:"Its type, as in user.signed_up."`
	Data    string `short:"d" placeholder:"JSON" help:"Its data: JSON, @FILE for a file that holds it, or - for standard input."`
	Key     string `placeholder:"KEY" help:"Events of one type and key are delivered in order."`
	Subject string `placeholder:"TEXT" help:"What it is about."`
	ID      string `name:"id" placeholder:"ID" help:"By it, duplicates are known: publishing it again does nothing."`
	Source  string `placeholder:"URI" help:"Where it comes from; by default /sources/http."`
}

// Help is shown below the summary.
func (publishEventCmd) Help() string {
	return clientHelp + `

Examples:
  rowcall events publish user.signed_up --key 7 --data '{"plan":"pro"}'
  rowcall events publish invoice.created --id inv-123 --data @invoice.json
  jq -c . report.json | rowcall events publish report.ready --data -`
}

// Run publishes one event.
func (c *publishEventCmd) Run(ctx context.Context, p *program) error {
	api, err := c.connect(p)
	if err != nil {
		return err
	}
	data, err := p.json(c.Data)
	if err != nil {
		return err
	}
	receipts, err := api.Publish(ctx, client.NewEvent{
		Type: c.Type, Key: c.Key, Subject: c.Subject, ID: c.ID, Source: c.Source, Data: data,
	})
	if err != nil {
		return answered(err)
	}
	if c.Output == "json" {
		return printJSON(p.stdout, receipts)
	}
	rows := make([][]string, len(receipts))
	for i, r := range receipts {
		state := "published"
		if r.Duplicate {
			state = "was there"
		}
		rows[i] = []string{offsetText(r.Sequence), r.ID, r.WebhookID, state}
	}
	return table(p.stdout, []string{"OFFSET", "ID", "WEBHOOK-ID", "STATE"}, rows)
}

// json reads JSON that a person hands over: as it is, @ and a file, or - for
// standard input. Empty stays empty.
func (p *program) json(text string) (json.RawMessage, error) {
	content := []byte(text)
	var err error
	switch path, isFile := strings.CutPrefix(text, "@"); {
	case text == "":
		return nil, nil
	case text == "-":
		if content, err = io.ReadAll(io.LimitReader(p.stdin, maxBodyBytes+1)); len(content) > maxBodyBytes {
			err = errors.New("more than 1 MiB")
		}
	case isFile:
		content, err = readCapped(path, maxBodyBytes)
	}
	if err != nil {
		return nil, usageError{fmt.Errorf("read --data: %w", err)}
	}
	if !json.Valid(content) {
		return nil, usageError{errors.New("read --data: not JSON; a text needs quotes, as in '\"text\"'")}
	}
	return content, nil
}
