package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/capture/postgres"
	"github.com/rowcall/rowcall/dispatch"
	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/subscriptions"
)

type checkCmd struct {
	serveFlags
	Output string `short:"o" enum:"table,json" default:"table" placeholder:"FORMAT" help:"table, or json for programs."`
}

// Help is shown below the summary.
func (checkCmd) Help() string {
	return `It takes the settings of serve, connects as serve would, creates nothing and changes nothing. What the configuration file
declares is judged as serve would, expressions by the tables that are there now, and the provider that people sign in by is
asked what it says of itself. Every fault comes with its remedy, mostly SQL. Exit code 1 where there is a fault, 2 where a
setting cannot be read; warnings do not count.

Example:
  set -a; . ./rowcall.env; rowcall check`
}

// finding is one line of check: of the configuration, the store or the source.
type finding struct {
	Of     string `json:"of"`
	Level  string `json:"level"` // ok, warning, fault
	What   string `json:"what"`
	Remedy string `json:"remedy,omitempty"`
}

// Run explains whether serve would start, and whether store and source are fit.
func (c *checkCmd) Run(ctx context.Context, p *program) error {
	config := c.read(p.settings, p.stderr)
	if err := p.settings.err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	guard, err := dispatch.NewGuard(dispatch.GuardConfig{
		Allow: config.egressAllow, PlainHTTP: config.egressHTTP,
		Deny: denied(ctx, zerolog.Nop(), listenAddr(config.listen), config.databases()...),
	})
	if err != nil {
		return fmt.Errorf("make guard: %w", err)
	}
	var findings []finding
	for _, w := range slices.Concat(p.settings.warnings, p.settings.ignored(p.environ)) {
		findings = append(findings, finding{"config", "warning", w.setting + " " + w.problem, w.remedy})
	}
	findings = append(findings, checkHere(ctx, config)...)
	found, there := checkStore(ctx, config)
	if there != nil {
		defer there.Close()
	}
	findings = append(findings, found...)
	sources, tables := checkSources(ctx, config)
	findings = append(findings, checkDeclared(ctx, config.declared, guard, existing{there, tables})...)
	findings = append(findings, checkProvider(ctx, config.oidc, guard)...)
	findings = append(findings, sources...)
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

// faultFinding is a fault of the settings as a line of check.
func faultFinding(f fault) finding {
	return finding{"config", "fault", f.setting + " " + f.problem, f.remedy}
}

// checkHere looks at what a start asks of the machine. The port may be taken, be it
// by the very rowcall that these are the settings of: it is left alone.
func checkHere(ctx context.Context, c config) []finding {
	var found []finding
	if c.cipher == nil {
		found = append(found, faultFinding(noSecretKey))
	}
	host, _, _ := net.SplitHostPort(c.listen)
	if l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, "0")); err != nil {
		found = append(found, faultFinding(fault{envName("listen"), "is no address to listen on: " + err.Error(), "name an address of this machine, as in 127.0.0.1:8080, or :8080 for every one"}))
	} else {
		l.Close()
	}
	if c.tracing {
		tracing, err := newTracing(ctx, c)
		if err != nil {
			found = append(found, faultFinding(fault{"OTEL_…", "cannot be used: " + err.Error(), "correct the variables of OpenTelemetry, or set OTEL_SDK_DISABLED=true"}))
		}
		endTracing(ctx, tracing)
	}
	return found
}

// checkSources looks at every source. The tables are nil where one cannot be read.
func checkSources(ctx context.Context, c config) (found []finding, tables []subscriptions.TableTypes) {
	tables = []subscriptions.TableTypes{}
	for i, src := range c.sources() {
		of, setting := "source", envName("source_url")
		if i > 0 {
			of, setting = "source "+src.name, "its url"
		} else if src.url == c.databaseURL {
			setting = envName("database_url")
		}
		findings, relations, err := postgres.Check(ctx, postgres.Config{Name: src.name, URL: src.url, Tables: src.tables, MaxValueBytes: c.maxValueBytes})
		for _, f := range findings {
			found = append(found, finding{of, f.Level, f.What, strings.ReplaceAll(f.Remedy, envName("source_url"), setting)})
		}
		if err != nil {
			found = append(found, finding{of, "fault", err.Error(), "correct " + setting + ", or let the server take connections from here"})
		}
		for j := range relations {
			if tables != nil && relations[j].Captured {
				tables = append(tables, relations[j].Types())
			}
		}
		if relations == nil {
			tables = nil
		}
	}
	return found, tables
}

// existing is what declarations are judged in view of: subscriptions as the store
// has them, where it can be read, and tables as they are now, where they can be.
type existing struct {
	store  *store.Store
	tables []subscriptions.TableTypes
}

// Subscriptions implements api.Existing.
func (e existing) Subscriptions(ctx context.Context, f store.SubscriptionFilter, limit int) ([]subscriptions.Subscription, error) {
	if e.store == nil {
		return nil, nil
	}
	return e.store.Subscriptions(ctx, f, limit)
}

// Tables implements api.Existing.
func (e existing) Tables(ctx context.Context) ([]subscriptions.TableTypes, error) {
	if e.tables != nil || e.store == nil {
		return e.tables, nil
	}
	return e.store.Tables(ctx)
}

// checkDeclared judges what the configuration file declares as serve would.
func checkDeclared(ctx context.Context, doc declared, guard *dispatch.Guard, there existing) []finding {
	if len(doc.subs) == 0 {
		return nil
	}
	err := doc.faults(api.JudgeDeclarations(ctx, there, guard, doc.owner, doc.declarations()))
	if faults, ok := errors.AsType[faultsError](err); ok {
		var found []finding
		for _, f := range faults {
			found = append(found, faultFinding(f))
		}
		return found
	}
	if err != nil {
		return []finding{{"config", "fault", fmt.Sprintf("what is declared cannot be judged: %.500s", err), "see what is said of the store"}}
	}
	return []finding{{"config", "ok", plural(len(doc.subs), "subscription") + " declared by owner " + doc.owner, ""}}
}

// listenAddr is the address of a listener that is not there.
func listenAddr(listen string) net.Addr {
	addr, err := net.ResolveTCPAddr("tcp", listen)
	if err != nil {
		return &net.TCPAddr{} // checkHere says so
	}
	return addr
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
