package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/store"
)

// checkStore looks at the database that is to hold the schema rowcall, and opens it
// to be read; nil where there is nothing that this rowcall can read.
func checkStore(ctx context.Context, c config) (fs []finding, there *store.Store) {
	add := func(level, what, remedy string) { fs = append(fs, finding{"store", level, what, remedy}) }
	conn, err := pgx.Connect(ctx, c.databaseURL)
	if err != nil {
		add("fault", "cannot connect: "+cause(err), cmp.Or(storeRemedy(err), "start it, or correct ROWCALL_DATABASE_URL"))
		return fs, nil
	}
	defer conn.Close(context.WithoutCancel(ctx))
	const query = `SELECT current_setting('server_version_num')::int, current_setting('server_version'), pg_is_in_recovery(),
		current_setting('default_transaction_read_only')::bool, pg_backend_pid()::bigint, current_user::text, current_database()::text,
		has_database_privilege(current_database(), 'CREATE'), to_regnamespace('rowcall') IS NOT NULL,
		EXISTS (SELECT FROM pg_class WHERE relname = 'schema_migrations' AND relnamespace = to_regnamespace('rowcall')),
		coalesce(has_schema_privilege(to_regnamespace('rowcall'), 'CREATE, USAGE'), false),
		abs(extract(epoch FROM clock_timestamp()) - $1)::float8,
		'rowcall' = ANY (SELECT CASE s WHEN '"$user"' THEN current_user ELSE trim(s, '"') END
		                 FROM regexp_split_to_table(current_setting('search_path'), '\s*,\s*') s)`
	var (
		number                         int
		version, role, database        string
		standby, readOnly              bool
		mayCreate, hasSchema, mayCreIn bool
		migrated, mixed                bool
		pid                            int64
		skew                           float64
	)
	now := float64(time.Now().UnixMicro()) / 1e6
	if err := conn.QueryRow(ctx, query, now).Scan(&number, &version, &standby, &readOnly, &pid, &role, &database,
		&mayCreate, &hasSchema, &migrated, &mayCreIn, &skew, &mixed); err != nil {
		add("fault", "cannot be asked: "+cause(err), "let the role in ROWCALL_DATABASE_URL read the system catalogue")
		return fs, nil
	}
	if number < 140000 {
		add("fault", "PostgreSQL "+version+" is too old", "use 14 or newer")
	} else {
		add("ok", "PostgreSQL "+version+", database "+database+", role "+role, "")
	}
	switch {
	case standby:
		add("fault", "it is a standby: nothing can be written", "name the primary in ROWCALL_DATABASE_URL")
	case readOnly:
		add("fault", "transactions are read-only", fmt.Sprintf("ALTER ROLE %s SET default_transaction_read_only = off;", pgx.Identifier{role}.Sanitize()))
	}
	switch {
	case hasSchema && mayCreIn:
		add("ok", "schema rowcall is there, and may be migrated", "")
	case hasSchema:
		add("fault", "schema rowcall belongs to somebody else", fmt.Sprintf("GRANT CREATE, USAGE ON SCHEMA rowcall TO %s;", pgx.Identifier{role}.Sanitize()))
	case mayCreate:
		add("ok", "schema rowcall may be created", "")
	default:
		add("fault", "schema rowcall is not there, and may not be created", fmt.Sprintf("GRANT CREATE ON DATABASE %s TO %s;",
			pgx.Identifier{database}.Sanitize(), pgx.Identifier{role}.Sanitize()))
	}
	if mixed {
		add("warning", "the search_path of role "+role+" leads to schema rowcall: where an application connects as this role, "+
			"names without a schema find rowcall's tables before its own, and its new tables are made among them",
			fmt.Sprintf("ALTER ROLE %s SET search_path = public; -- or give rowcall a role of another name", pgx.Identifier{role}.Sanitize()))
	}
	if own := int64(conn.PgConn().PID()); own != pid {
		add("fault", "a connection pooler stands in between: sessions are not ours alone", "name the server itself in ROWCALL_DATABASE_URL")
	}
	if skew > 5 {
		add("warning", fmt.Sprintf("its clock and ours differ by %.0f s", skew), "synchronise both (NTP)")
	}
	if slices.ContainsFunc(fs, func(f finding) bool { return f.Level == "fault" }) {
		return fs, nil
	}
	found, there := openStore(ctx, c, migrated)
	return append(fs, found...), there
}

// openStore opens what earlier starts have left, to be read.
func openStore(ctx context.Context, c config, migrated bool) ([]finding, *store.Store) {
	first := func() []finding {
		if c.apiKey.IsZero() {
			return []finding{faultFinding(noAPIKey)}
		}
		return nil
	}
	if !migrated {
		return first(), nil
	}
	if c.cipher == nil {
		return nil, nil
	}
	there, err := store.Open(ctx, store.Config{URL: c.databaseURL, Instance: c.instance, Cipher: c.cipher, ReadOnly: true, Logger: zerolog.Nop()})
	switch {
	case errors.Is(err, store.ErrKey):
		explained, _ := errors.AsType[faultsError](explainStore(err))
		return []finding{faultFinding(explained[0])}, nil
	case errors.Is(err, store.ErrNewer):
		return []finding{{"store", "fault", err.Error(), "run the version of rowcall that the schema was made by, or a newer one"}}, nil
	case errors.Is(err, store.ErrSchema):
		return []finding{{"store", "warning", "schema rowcall is of an older version, which serve brings up to date: what subscriptions there are is not looked at", "run rowcall migrate, and check again, where that matters"}}, nil
	case err != nil:
		return []finding{{"store", "fault", "schema rowcall cannot be read: " + cause(err), storeRemedy(err)}}, nil
	}
	has, err := there.HasBootstrapKey(ctx)
	if err == nil && !has {
		return first(), there
	}
	return nil, there
}
