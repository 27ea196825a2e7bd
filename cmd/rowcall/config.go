package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/dispatch"
	"github.com/rowcall/rowcall/subscriptions"
)

// config is what serve runs on: read, complete and checked.
type config struct {
	databaseURL  string
	databaseWait time.Duration
	sourceURL    string // the store's where it is not given
	sourceName   string
	sourceTables []string
	more         []source // beside that one
	instance     string

	apiKey    subscriptions.Secret // zero: the one of an earlier start
	cipher    *subscriptions.Cipher
	listen    string
	publicURL string
	tls       *tls.Config // nil: plain http

	apiRate float64 // requests a second of one key; 0: no limit

	egressAllow string
	egressHTTP  bool

	declared declared // by the configuration file

	oidc oidcConfig

	retention         time.Duration
	logMaxBytes       int64
	deadRetention     time.Duration
	attempts          string // all or failures
	attemptsRetention time.Duration
	maxValueBytes     int64

	tracing bool // the environment names a collector of traces

	logger zerolog.Logger
}

// storeFlags name the database that holds rowcall's own schema.
type storeFlags struct {
	DatabaseURL string `secret:"" placeholder:"URL" help:"Postgres that holds rowcall's own schema (required)."`
}

// sourceFlags name the database to capture.
type sourceFlags struct {
	SourceURL    string `secret:"" placeholder:"URL" help:"Postgres to capture; by default the same as --database-url."`
	SourceName   string `default:"main" placeholder:"NAME" help:"Name in events, slot rowcall_<name> and publication rowcall_<name>; by default ${default}."`
	SourceTables string `default:"public.*" placeholder:"LIST" help:"Tables to capture: schema.table or schema.*, SQL identifiers, comma-separated; by default ${default}."`
}

// listenFlags say where the API listens. The probe reads them too.
type listenFlags struct {
	Listen      string `default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Address of console, API, /metrics, /healthz and /readyz; by default ${default}."`
	TLSCertFile string `placeholder:"FILE" help:"Certificate chain in PEM: serve https."`
	TLSKeyFile  string `placeholder:"FILE" help:"Its private key in PEM."`
}

// egressFlags say where requests may go.
type egressFlags struct {
	EgressAllow string `placeholder:"LIST" help:"Targets beyond the public internet: private, or CIDRs and host patterns, with ports, comma-separated."`
	EgressHTTP  bool   `name:"egress-http" help:"Allow plain http to public targets too."`
}

// parse checks the setting; nil where it is wrong.
func (f *egressFlags) parse(s *settings) *dispatch.Guard {
	guard, err := dispatch.NewGuard(dispatch.GuardConfig{Allow: f.EgressAllow, PlainHTTP: f.EgressHTTP})
	if err != nil {
		s.add(fault{envName("egress_allow"), "is wrong (" + err.Error() + ")", "write private, or CIDRs and host patterns such as 10.0.0.0/8:8443,*.internal"})
		return nil
	}
	return guard
}

// logFlags say what is logged.
type logFlags struct {
	LogLevel  string `default:"info" placeholder:"LEVEL" help:"debug, info, warn or error; by default ${default}."`
	LogFormat string `placeholder:"FORMAT" help:"json, or console for people; by default console on a terminal and json elsewhere."`
}

// serveFlags are the settings of serve, as text: they are read in one place,
// parse, which names every fault at once.
type serveFlags struct {
	storeFlags
	DatabaseWait string `default:"1m" placeholder:"DURATION" help:"How long to wait for that Postgres to come up before giving up at start; by default ${default}."`
	sourceFlags
	Instance string `placeholder:"NAME" help:"Name of this instance: the same after a restart, unlike any other's; by default host and port."`

	APIKey    string `secret:"" hidden:"" help:"Bootstrap admin key."`
	SecretKey string `secret:"" hidden:"" help:"Master key for secrets at rest."`
	listenFlags
	PublicURL string `placeholder:"URL" help:"The address people open the console at, where it is not a loopback one: its host is let in, its scheme decides on the cookie."`

	APIRate string `default:"500" placeholder:"N" help:"Requests a second to the API of one key, twice as many at once; 0 for no limit; by default ${default}."`

	egressFlags
	oidcFlags

	Retention         string `default:"168h" placeholder:"DURATION" help:"How long delivered events stay in the log; by default ${default}."`
	LogMaxBytes       string `default:"32GiB" placeholder:"SIZE" help:"Disk for the log; by default ${default}."`
	DeadRetention     string `default:"30d" placeholder:"DURATION" help:"How long dead letters are kept; by default ${default}."`
	Attempts          string `default:"all" placeholder:"WHICH" help:"Which attempts go into history: all or failures; by default ${default}."`
	AttemptsRetention string `default:"7d" placeholder:"DURATION" help:"How long attempts are kept; by default ${default}."`
	MaxValueBytes     string `default:"16MiB" placeholder:"SIZE" help:"Columns larger than this are left out of events; by default ${default}."`
	logFlags
}

var (
	sourceNamePattern = regexp.MustCompile(`^[a-z0-9_]{1,55}$`)
	instancePattern   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$`)
)

// noSecretKey is a fault of serve alone: without the key the rest can be looked at.
var noSecretKey = fault{envName("secret_key"), "is not set", "make one with rowcall keygen, and keep it: without it no stored secret can be read"}

// parse reads the settings. Its faults are added to those that s found before.
func (f *serveFlags) parse(s *settings, stderr *os.File) (config, error) {
	c := f.read(s, stderr)
	if f.SecretKey == "" && !s.faulty("secret_key") {
		s.add(noSecretKey)
	}
	return c, s.err()
}

// read is parse where the secret key may be missing.
func (f *serveFlags) read(s *settings, stderr *os.File) config {
	c := config{
		databaseURL:   f.storeFlags.parse(s),
		databaseWait:  s.duration("database_wait", f.DatabaseWait, 0),
		instance:      f.Instance,
		apiKey:        subscriptions.NewSecret(f.APIKey),
		listen:        f.Listen,
		publicURL:     f.PublicURL,
		apiRate:       s.rate("api_rate", f.APIRate),
		egressAllow:   f.EgressAllow,
		egressHTTP:    f.EgressHTTP,
		retention:     s.duration("retention", f.Retention, time.Minute),
		logMaxBytes:   s.size("log_max_bytes", f.LogMaxBytes, 64<<20),
		deadRetention: s.duration("dead_retention", f.DeadRetention, time.Minute),
		attempts:      s.oneOf("attempts", f.Attempts, "all", "failures"),

		attemptsRetention: s.duration("attempts_retention", f.AttemptsRetention, time.Minute),
		maxValueBytes:     s.size("max_value_bytes", f.MaxValueBytes, 1<<10),
		tracing:           s.tracingWanted(),
		logger:            f.logFlags.parse(s, stderr),
	}
	first := f.sourceFlags.parse(s, c.databaseURL)
	c.sourceURL, c.sourceName, c.sourceTables = first.url, first.name, first.tables
	c.more = s.moreSources(first)
	c.tls = f.parseTLS(s)
	port := f.checkListen(s)

	if f.SecretKey != "" {
		var err error
		if c.cipher, err = subscriptions.NewCipher(f.SecretKey); err != nil {
			s.add(fault{envName("secret_key"), "is not a master key", "make one with rowcall keygen, and keep it: it cannot be made again"})
		}
	}
	if f.APIKey != "" {
		if _, err := api.HashKey(f.APIKey); err != nil {
			s.add(fault{envName("api_key"), "is no API key (" + err.Error() + ")", "make one with rowcall keygen"})
		}
	}
	if c.instance == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "rowcall"
		}
		c.instance = host + ":" + port
	} else if !instancePattern.MatchString(c.instance) {
		s.add(fault{envName("instance"), fmt.Sprintf("is %q", c.instance), "use up to 100 letters, digits and . _ : -"})
	}
	if c.publicURL != "" {
		u, err := url.Parse(c.publicURL)
		if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil ||
			strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
			s.add(fault{envName("public_url"), "is not an address people can open", "write it as https://rowcall.example.com"})
		}
	}
	guard := f.egressFlags.parse(s)
	c.declared = s.configured(c.sourceName, guard)
	c.oidc = f.oidcFlags.parse(s, guard)
	return c
}

// parse checks the store's address.
func (f *storeFlags) parse(s *settings) string {
	if f.DatabaseURL == "" {
		if !s.faulty("database_url") {
			s.add(fault{
				envName("database_url"), "is not set",
				"name the Postgres that may hold the schema rowcall, as in postgres://app:secret@db:5432/app",
			})
		}
		return ""
	}
	s.postgresURL(envName("database_url"), f.DatabaseURL)
	return s.secured(envName("database_url"), f.DatabaseURL)
}

// parse checks what is to be captured.
func (f *sourceFlags) parse(s *settings, store string) source {
	src := source{name: f.SourceName, url: store}
	at := func(member string) string { return envName("source_" + member) }
	if f.SourceURL != "" {
		s.postgresURL(at("url"), f.SourceURL)
		src.url = s.secured(at("url"), f.SourceURL)
	}
	src.tables = s.checkSource(at, f.SourceName, f.SourceTables)
	return src
}

// checkListen checks the address to listen on and returns its port.
func (f *listenFlags) checkListen(s *settings) (port string) {
	_, port, err := net.SplitHostPort(f.Listen)
	if n, perr := strconv.Atoi(port); err != nil || perr != nil || n < 0 || n > 65535 {
		s.add(fault{envName("listen"), fmt.Sprintf("is %q", f.Listen), "write host:port, as in 127.0.0.1:8080, or :8080 for every address"})
	}
	return port
}

// parseTLS loads the certificate; nil where there is none.
func (f *listenFlags) parseTLS(s *settings) *tls.Config {
	switch {
	case f.TLSCertFile == "" && f.TLSKeyFile == "":
		return nil
	case f.TLSCertFile == "":
		s.add(fault{envName("tls_cert_file"), "is not set, though " + envName("tls_key_file") + " is", "set both or neither"})
		return nil
	case f.TLSKeyFile == "":
		s.add(fault{envName("tls_key_file"), "is not set, though " + envName("tls_cert_file") + " is", "set both or neither"})
		return nil
	}
	certificate, err := tls.LoadX509KeyPair(f.TLSCertFile, f.TLSKeyFile)
	if err != nil {
		s.add(fault{
			envName("tls_cert_file"), "and " + envName("tls_key_file") + " cannot be used (" + reason(err) + ")",
			"name a certificate chain and its private key, both in PEM",
		})
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}}
}

// faulty reports whether a fault about a setting has been found already.
func (s *settings) faulty(key string) bool {
	for _, f := range s.faults {
		if strings.HasPrefix(f.setting, envName(key)) || strings.HasPrefix(f.setting, key) {
			return true
		}
	}
	return false
}

func (s *settings) duration(key, text string, least time.Duration) time.Duration {
	d, err := subscriptions.ParseDuration(text)
	switch {
	case err != nil:
		s.add(fault{s.called(key), fmt.Sprintf("is %q, which is not a duration", text), "write it as 90s, 12h or 7d"})
	case d.D() < least:
		s.add(fault{s.called(key), fmt.Sprintf("is %q, which is too short", text), "give it at least " + least.String()})
	}
	return d.D()
}

func (s *settings) size(key, text string, least int64) int64 {
	n, err := parseSize(text)
	switch {
	case err != nil:
		s.add(fault{s.called(key), fmt.Sprintf("is %q, which is not a size", text), "write it as 512MiB or 32GiB, or as a number of bytes"})
	case n < least:
		s.add(fault{s.called(key), fmt.Sprintf("is %q, which is too small", text), fmt.Sprintf("give it at least %d bytes", least)})
	}
	return n
}

func (s *settings) rate(key, text string) float64 {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n >= 0 && n <= 1e6) { // NaN is no rate
		s.add(fault{s.called(key), fmt.Sprintf("is %q", text), "write requests a second, as in 500, or 0 for no limit"})
	}
	return n
}

func (s *settings) oneOf(key, text string, allowed ...string) string {
	for _, a := range allowed {
		if text == a {
			return text
		}
	}
	s.add(fault{s.called(key), fmt.Sprintf("is %q", text), "write " + strings.Join(allowed, " or ")})
	return text
}

// postgresURL checks the form of a connection string. What it says leaves the
// string itself out: there may be a password in it.
func (s *settings) postgresURL(setting, text string) {
	_, err := pgconn.ParseConfig(text)
	if err == nil {
		return
	}
	if missing, ok := errors.AsType[*os.PathError](err); ok {
		s.add(fault{setting, "names a file that cannot be read (" + reason(missing) + ")", "let sslrootcert, sslcert, sslkey and servicefile (in it, or as variables such as PGSSLROOTCERT) name files that rowcall may read"})
		return
	}
	problem, remedy := "is not a Postgres address", "write it as postgres://user:password@host:5432/database"
	if strings.Contains(err.Error(), "failed to configure TLS") { // pgconn gives it no type
		problem = "asks for TLS that cannot be had"
		remedy = "correct sslmode, sslrootcert, sslcert and sslkey in it: sslmode=verify-full&sslrootcert=/path/of/ca.pem names an authority in PEM"
	}
	if inner := errors.Unwrap(err); inner != nil && inner.Error() != "" {
		if _, quotes := errors.AsType[*url.Error](err); !quotes {
			problem += " (" + inner.Error() + ")"
		}
	}
	s.add(fault{setting, problem, remedy})
}

// splitTables splits a list of SQL identifiers at the commas outside of quotes.
func splitTables(list string) ([]string, error) {
	var tables []string
	quoted, start := false, 0
	for i := 0; i <= len(list); i++ {
		switch {
		case i < len(list) && list[i] == '"':
			quoted = !quoted
		case i == len(list) || list[i] == ',' && !quoted:
			if table := strings.TrimSpace(list[start:i]); table != "" {
				tables = append(tables, table)
			}
			start = i + 1
		}
	}
	if quoted {
		return nil, errors.New("has a quote that is not closed")
	}
	if len(tables) == 0 {
		return nil, errors.New("names no table")
	}
	return tables, nil
}

// parseSize reads a number of bytes: "1048576", "16MiB", "1.5GB".
func parseSize(text string) (int64, error) {
	digits := strings.TrimRight(text, "BKMGTibkmgt ")
	unit := strings.TrimSpace(text[len(digits):])
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || !(n >= 0) { // NaN is no number of bytes
		return 0, fmt.Errorf("parse size %q: no number", text)
	}
	factor, ok := map[string]float64{
		"": 1, "B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
		"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
	}[unit]
	if !ok || n*factor > 1<<62 {
		return 0, fmt.Errorf("parse size %q: unknown unit, or too large", text)
	}
	return int64(n * factor), nil
}
