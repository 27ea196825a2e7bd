package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowcall/rowcall/migrations"
	"github.com/rowcall/rowcall/store"
)

type migrateCmd struct {
	storeFlags
	DatabaseWait string `default:"1m" placeholder:"DURATION" help:"How long to wait for the Postgres to come up; by default ${default}."`
	logFlags
}

// Help is shown below the summary.
func (migrateCmd) Help() string {
	return `serve does this at its start by itself. Use migrate where serve's role may not create tables.

Example:
  ROWCALL_DATABASE_URL='postgres://owner:secret@db/app?sslmode=verify-full' rowcall migrate`
}

// Run brings the schema to the newest version.
func (c *migrateCmd) Run(ctx context.Context, p *program) error {
	config := config{
		databaseURL:  c.storeFlags.parse(p.settings),
		databaseWait: p.settings.duration("database_wait", c.DatabaseWait, 0),
		logger:       c.logFlags.parse(p.settings, p.stderr),
	}
	if err := p.settings.err(); err != nil {
		return err
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	n, err := migrateStore(ctx, config)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "%s applied; the schema is at version %d\n", plural(n, "migration"), migrations.Latest())
	return err
}

// migrateStore applies migrations. A database that is not there yet is waited
// for, since containers start in any order; one that refuses us is not.
func migrateStore(ctx context.Context, c config) (int, error) {
	begun, told := time.Now(), false
	for wait := 250 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		n, err := migrations.Up(ctx, c.databaseURL)
		switch {
		case err == nil:
			if told {
				c.logger.Info().Msg("store is reachable")
			}
			return n, nil
		case storeRemedy(err) != "" || !store.Unavailable(err):
			return 0, fmt.Errorf("migrate store: %w", explainStore(err))
		case time.Since(begun)+wait > c.databaseWait:
			return 0, fmt.Errorf("reach store: gave up after %v (ROWCALL_DATABASE_WAIT): %w", c.databaseWait, inShort{err, cause(err)})
		case !told:
			c.logger.Warn().Str("error", cause(err)).Stringer("patience", c.databaseWait).Msg("store is not reachable: waiting for it")
			told = true
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("migrate store: %w", ctx.Err())
		case <-time.After(wait):
		}
	}
}

// explainStore adds the remedy to errors that a person can do something about.
func explainStore(err error) error {
	switch {
	case errors.Is(err, store.ErrKey):
		return faultsError{{
			"ROWCALL_SECRET_KEY", "is not the key that the stored secrets were sealed with",
			"set the key of earlier starts, or begin anew with another database",
		}}
	case errors.Is(err, store.ErrSchema):
		return fmt.Errorf("%w: run the version of rowcall that the schema was made by, or a newer one", err)
	}
	if remedy := storeRemedy(err); remedy != "" {
		return inShort{err, cause(err) + ": " + remedy}
	}
	return err
}

// storeRemedy says what a person does about a server that refuses us: at start that
// is a mistake in the settings, which no waiting mends. Empty where that is not known.
func storeRemedy(err error) string {
	if _, remedy := store.Refused(err, envName("database_url")); remedy != "" {
		return remedy
	}
	if pe, ok := errors.AsType[*pgconn.PgError](err); ok && pe.Code == "42501" {
		return "as its owner, run GRANT CREATE ON DATABASE … TO the role in ROWCALL_DATABASE_URL, or run rowcall migrate as the owner"
	}
	return ""
}

// inShort is an error with a text for people.
type inShort struct {
	error
	text string
}

func (e inShort) Error() string { return e.text }
func (e inShort) Unwrap() error { return e.error }

// cause is an error of Postgres in a line: what the server says; where it was
// not reached, why. pgx tells every address, each with and without TLS.
func cause(err error) string {
	if pe, ok := errors.AsType[*pgconn.PgError](err); ok {
		return fmt.Sprintf("%s (SQLSTATE %s)", pe.Message, pe.Code)
	}
	var lines []string
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" && !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, " ")
}
