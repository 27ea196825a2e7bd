package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/capture/postgres"
	"github.com/rowcall/rowcall/dispatch"
)

type checkCmd struct {
	storeFlags
	sourceFlags
	egressFlags
	oidcFlags
	Output string `short:"o" enum:"table,json" default:"table" placeholder:"FORMAT" help:"table, or json for programs."`
}

// Help is shown below the summary.
func (checkCmd) Help() string {
	return `It connects as serve would, creates nothing and changes nothing. What the configuration file declares is judged as serve
would, but for expressions, which need the tables that were captured, and the provider that people sign in by is asked
what it says of itself. Every fault comes with its remedy, mostly SQL. Exit code 1 where there is a fault; warnings do not
count.

Example:
  ROWCALL_DATABASE_URL='postgres://app:secret@db/app?sslmode=verify-full' rowcall check`
}

// finding is one line of check: of the configuration file, the store or the source.
type finding struct {
	Of     string `json:"of"`
	Level  string `json:"level"` // ok, warning, fault
	What   string `json:"what"`
	Remedy string `json:"remedy,omitempty"`
}

// Run explains whether store and source are fit.
func (c *checkCmd) Run(ctx context.Context, p *program) error {
	store := c.storeFlags.parse(p.settings)
	first := c.sourceFlags.parse(p.settings, store)
	sources := append([]source{first}, p.settings.moreSources(first)...)
	guard := c.egressFlags.parse(p.settings)
	doc := p.settings.configured(first.name, guard)
	people := c.oidcFlags.parse(p.settings, guard)
	if err := p.settings.err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var findings []finding
	if len(doc.subs) > 0 {
		findings = append(findings, finding{"config", "ok", plural(len(doc.subs), "subscription") + " declared by owner " + doc.owner, ""})
	}
	for _, w := range p.settings.warnings {
		findings = append(findings, finding{"config", "warning", w.setting + " " + w.problem, w.remedy})
	}
	findings = append(findings, checkStore(ctx, store)...)
	findings = append(findings, checkOwners(ctx, store, doc)...)
	findings = append(findings, checkProvider(ctx, people, guard)...)
	for i, src := range sources {
		of, setting := "source", envName("source_url")
		if i > 0 {
			of, setting = "source "+src.name, "its url"
		}
		found, err := postgres.Check(ctx, postgres.Config{Name: src.name, URL: src.url, Tables: src.tables})
		for _, f := range found {
			findings = append(findings, finding{of, f.Level, f.What, f.Remedy})
		}
		if err != nil {
			findings = append(findings, finding{of, "fault", err.Error(), "correct " + setting + ", or let the server take connections from here"})
		}
	}
	if err := printFindings(p.stdout, findings, c.Output); err != nil {
		return err
	}
	for _, f := range findings {
		if f.Level == "fault" {
			return exitError{}
		}
	}
	return nil
}

func printFindings(w io.Writer, findings []finding, output string) error {
	if output == "json" {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(findings)
	}
	count := make(map[string]int)
	for _, f := range findings {
		count[f.Level]++
		mark := map[string]string{"ok": "✓", "warning": "!", "fault": "✗"}[f.Level]
		text := fmt.Sprintf("%s %-6s  %s\n", mark, f.Of, f.What)
		if f.Remedy != "" {
			text += "            → " + strings.ReplaceAll(f.Remedy, "\n", "\n              ") + "\n"
		}
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "\n%s, %s\n", plural(count["fault"], "fault"), plural(count["warning"], "warning"))
	return err
}

// checkProvider asks the provider that people sign in by, if there is one, for what
// it says of itself.
func checkProvider(ctx context.Context, c oidcConfig, guard *dispatch.Guard) []finding {
	if c.issuer == "" {
		return nil
	}
	transport := guard.Transport()
	defer transport.CloseIdleConnections()
	s := &signIn{config: c, client: transport.Client(oidcTimeout, oidcAnswer)}
	if _, err := s.readMetadata(ctx); err != nil {
		return []finding{{"people", "fault", fmt.Sprintf("%.500s", err), "correct ROWCALL_OIDC_ISSUER, letter by letter as the provider writes it, or let rowcall reach it (ROWCALL_EGRESS_ALLOW)"}}
	}
	return []finding{{"people", "ok", "sign in by " + c.issuer, ""}}
}

// checkOwners finds what another owner declares already, where there is a store.
func checkOwners(ctx context.Context, address string, doc declared) []finding {
	names := make([]string, len(doc.subs))
	for i := range doc.subs {
		names[i] = doc.subs[i].name
	}
	conn, err := pgx.Connect(ctx, address)
	if err != nil || len(names) == 0 {
		return nil // that the store does not answer is said already
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, `SELECT name, managed_by FROM rowcall.subscriptions
		WHERE deleted_at IS NULL AND managed_by NOT IN ('', $1) AND name = ANY ($2) ORDER BY name`, doc.owner, names)
	if err != nil {
		return nil
	}
	type owned struct{ Name, Owner string }
	others, err := pgx.CollectRows(rows, pgx.RowToStructByPos[owned])
	if err != nil {
		return nil // no store yet, or one of before there were owners
	}
	found := make([]finding, len(others))
	for i, o := range others {
		found[i] = finding{"config", "fault", fmt.Sprintf("subscription %q is declared by owner %q already, and owner %s declares it", o.Name, o.Owner, doc.owner), ownerRemedy(o.Owner)}
	}
	return found
}

// checkStore looks at the database that is to hold the schema rowcall.
func checkStore(ctx context.Context, address string) []finding {
	var fs []finding
	add := func(level, what, remedy string) { fs = append(fs, finding{"store", level, what, remedy}) }
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		add("fault", "cannot connect: "+cause(err), cmp.Or(storeRemedy(err), "start it, or correct ROWCALL_DATABASE_URL"))
		return fs
	}
	defer conn.Close(context.WithoutCancel(ctx))
	const query = `SELECT current_setting('server_version_num')::int, current_setting('server_version'), pg_is_in_recovery(),
		current_setting('default_transaction_read_only')::bool, pg_backend_pid()::bigint, current_user::text, current_database()::text,
		has_database_privilege(current_database(), 'CREATE'), to_regnamespace('rowcall') IS NOT NULL,
		coalesce(has_schema_privilege(to_regnamespace('rowcall'), 'CREATE, USAGE'), false),
		abs(extract(epoch FROM clock_timestamp()) - $1)::float8,
		'rowcall' = ANY (SELECT CASE s WHEN '"$user"' THEN current_user ELSE trim(s, '"') END
		                 FROM regexp_split_to_table(current_setting('search_path'), '\s*,\s*') s)`
	var (
		number                         int
		version, role, database        string
		standby, readOnly              bool
		mayCreate, hasSchema, mayCreIn bool
		pid                            int64
		skew                           float64
		mixed                          bool
	)
	now := float64(time.Now().UnixMicro()) / 1e6
	if err := conn.QueryRow(ctx, query, now).Scan(&number, &version, &standby, &readOnly, &pid, &role, &database,
		&mayCreate, &hasSchema, &mayCreIn, &skew, &mixed); err != nil {
		add("fault", "cannot be asked: "+cause(err), "let the role in ROWCALL_DATABASE_URL read the system catalogue")
		return fs
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
	return fs
}
