package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"go.yaml.in/yaml/v3"

	"github.com/rowcall/rowcall/api/client"
)

// maxBodyBytes caps a document that a person hands over, by file or by pipe.
const maxBodyBytes = 1 << 20

// clientFlags say which instance to ask, and how to print its answer.
type clientFlags struct {
	URL    string `default:"http://127.0.0.1:8080" placeholder:"URL" help:"Address of the API; by default ${default}."`
	APIKey string `secret:"" hidden:"" help:"API key."`
	Output string `short:"o" enum:"table,json" default:"table" placeholder:"FORMAT" help:"table for people, json for programs; by default ${default}."`
}

// clientHelp ends the help of every client command.
const clientHelp = `The API key is read from ROWCALL_API_KEY, or from the file that ROWCALL_API_KEY_FILE names.`

// example is the help of a client command that an example explains.
func example(line string) string { return clientHelp + "\n\nExample:\n  " + line }

// listFlags bound a list.
type listFlags struct {
	Limit int `default:"100" placeholder:"N" help:"Show at most so many; 0 for all; by default ${default}."`
}

// connect makes the client that every command below goes through.
func (f *clientFlags) connect(p *program) (*client.Client, error) {
	if f.APIKey == "" && !p.settings.faulty("api_key") {
		p.settings.add(fault{envName("api_key"), "is not set", "set it to an API key, or " + envName("api_key") + "_FILE to a file that holds one"})
	}
	if err := p.settings.err(); err != nil {
		return nil, err
	}
	c, err := client.New(client.Config{BaseURL: f.URL, Key: f.APIKey, UserAgent: "rowcall/" + buildInfo().Version})
	if err != nil {
		return nil, faultsError{{envName("url"), "is not an address of an API", "write it as http://127.0.0.1:8080"}}
	}
	return c, nil
}

// answered turns an answer that refuses into an error with a remedy.
func answered(err error) error {
	problem, ok := errors.AsType[*client.Problem](err)
	switch {
	case err == nil:
		return nil
	case !ok:
		return fmt.Errorf("ask rowcall: %w (is it running there? see ROWCALL_URL)", err)
	case problem.Status == http.StatusUnauthorized:
		return fmt.Errorf("ask rowcall: %w (is ROWCALL_API_KEY one of its keys?)", err)
	case problem.Type == client.Validation || problem.Type == client.Malformed:
		return usageError{fmt.Errorf("ask rowcall: %w", err)}
	default:
		return fmt.Errorf("ask rowcall: %w", err)
	}
}

// answeredOf is answered of what a person has named: that it is not there says what
// it is, and the command that lists what there is.
func answeredOf(err error, noun, id, list string) error {
	if problem, ok := errors.AsType[*client.Problem](err); ok && problem.Type == client.NotFound {
		return fmt.Errorf("there is no %s %q, or no longer (%s shows those there are)", noun, id, list)
	}
	return answered(err)
}

// collect reads a list, page by page, up to limit items (0: all).
func collect[T any](ctx context.Context, limit int, list func(context.Context, client.PageQuery) (client.Page[T], error)) ([]T, error) {
	if limit < 0 {
		return nil, usageError{errors.New("--limit is below zero")}
	}
	from := client.PageQuery{}
	if limit > 0 {
		from.Limit = min(limit, 1000)
	}
	items := []T{}
	for item, err := range client.All(ctx, from, list) {
		if err != nil {
			return nil, answered(err)
		}
		items = append(items, item)
		if len(items) == limit {
			break
		}
	}
	return items, nil
}

// document reads a YAML or JSON mapping from a file; "-" is standard input.
func (p *program) document(path string) (map[string]any, error) {
	var (
		content []byte
		err     error
	)
	if path == "-" {
		content, err = readAtMost(p.stdin, "standard input", maxBodyBytes)
	} else {
		content, err = readCapped(path, maxBodyBytes)
	}
	if err != nil {
		return nil, usageError{fmt.Errorf("read document: %w", err)}
	}
	members := make(map[string]any)
	if err := yaml.NewDecoder(bytes.NewReader(content)).Decode(&members); err != nil && !errors.Is(err, io.EOF) {
		return nil, usageError{fmt.Errorf("read document %s: %w", path, err)}
	}
	return members, nil
}
