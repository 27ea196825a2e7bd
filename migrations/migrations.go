// Package migrations holds rowcall's schema as numbered, forward-only SQL files
// and applies them.
//
// A new one has a number above all that are there. Numbers that were left out
// (11, 13, 14) stay so: a database that has passed one is not brought up to date
// by a file that comes later, it is refused.
package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed *.sql
var files embed.FS

// versionTable records what was applied. It stands in our own schema, so that a
// dump of the schema is whole.
const versionTable = "rowcall.schema_migrations"

// Up brings the database at url to the newest version, creating the schema
// "rowcall" where there is none. Several instances may call it at once: one
// works, the others wait. It returns how many migrations it applied.
//
// The lock is a session's: the url must not lead through a pooler that changes
// sessions between transactions.
func Up(ctx context.Context, url string) (int, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return 0, fmt.Errorf("parse database url: %w", err)
	}
	db := stdlib.OpenDB(*config)
	defer db.Close()
	if err := checkServer(ctx, db); err != nil {
		return 0, err
	}
	if err := createSchema(ctx, db); err != nil {
		return 0, fmt.Errorf("create schema rowcall: %w", err)
	}
	// A second between tries: goose's default of five makes every instance but
	// the first start that much later.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300))
	if err != nil {
		return 0, fmt.Errorf("make migration lock: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithSessionLocker(locker), goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return 0, fmt.Errorf("read migrations: %w", err)
	}
	done, err := provider.Up(ctx)
	if err != nil {
		return len(done), fmt.Errorf("apply migrations: %w", err)
	}
	return len(done), nil
}

// oldestServer is the first version that can detach a partition while others
// read: retention needs it.
const oldestServer = 140000

func checkServer(ctx context.Context, db *sql.DB) error {
	var (
		number  int
		version string
	)
	const query = `SELECT current_setting('server_version_num')::int, current_setting('server_version')`
	if err := db.QueryRowContext(ctx, query).Scan(&number, &version); err != nil {
		return fmt.Errorf("read server version: %w", err)
	}
	if number < oldestServer {
		return fmt.Errorf("PostgreSQL %s is too old to hold the schema rowcall: use %d or newer", version, oldestServer/10000)
	}
	return nil
}

// createSchema makes the schema unless it is there: a role that may not create
// one can use one that somebody made for it.
func createSchema(ctx context.Context, db *sql.DB) error {
	var there bool
	err := db.QueryRowContext(ctx, `SELECT to_regnamespace('rowcall') IS NOT NULL`).Scan(&there)
	if err != nil || there {
		return err
	}
	_, err = db.ExecContext(ctx, `CREATE SCHEMA IF NOT EXISTS rowcall`)
	// IF NOT EXISTS does not see a schema that another session is creating at
	// this moment.
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && (pg.Code == "23505" || pg.Code == "42P06") {
		return nil
	}
	return err
}

// Latest is the version of the newest migration in this binary.
func Latest() int64 {
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		panic(err) // the pattern is constant
	}
	var latest int64
	for _, name := range names {
		number, _, _ := strings.Cut(name, "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			panic(fmt.Sprintf("migration %s has no number", name))
		}
		latest = max(latest, version)
	}
	return latest
}
