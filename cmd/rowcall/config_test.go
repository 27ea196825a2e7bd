package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rowcall/rowcall/subscriptions"
)

// read reads the settings of serve from an environment and flags.
func read(t *testing.T, env []string, flags ...string) (config, error) {
	t.Helper()
	var cli commands
	p := &program{stdout: os.Stdout, stderr: os.Stderr, environ: env}
	p.settings = &settings{env: lookupIn(env), names: settingNames()}
	parser, err := newParser(&cli, p, func(int) { t.Error("the parser exits") })
	if err != nil {
		t.Fatal(err)
	}
	kctx, err := parser.Parse(append([]string{"serve"}, flags...))
	if err != nil {
		t.Fatal(err)
	}
	p.settings.refuseSecretFlags(kctx)
	return cli.Serve.parse(p.settings, os.Stderr)
}

// file writes a file for a setting to name.
func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// required is an environment in which nothing is missing.
func required() []string {
	return []string{"ROWCALL_DATABASE_URL=postgres://app:pw@db:5433/app", "ROWCALL_SECRET_KEY=" + subscriptions.NewMasterKey()}
}

func TestDefaultsAreThoseOfTheTable(t *testing.T) {
	t.Parallel()
	c, err := read(t, append(required(), "ROWCALL_INSTANCE=one"))
	if err != nil {
		t.Fatal(err)
	}
	day := 24 * time.Hour
	got := []any{
		c.databaseURL, c.databaseWait, c.sourceURL, c.sourceName, c.sourceTables, c.listen, c.egressAllow, c.egressHTTP,
		c.retention, c.logMaxBytes, c.deadRetention, c.attempts, c.attemptsRetention, c.maxValueBytes, c.publicURL, c.tls == nil, c.instance,
	}
	want := []any{
		"postgres://app:pw@db:5433/app?sslmode=verify-full", time.Minute, "postgres://app:pw@db:5433/app?sslmode=verify-full", "main",
		[]string{"public.*"},
		"127.0.0.1:8080", "", false,
		7 * day, int64(32 << 30), 30 * day, "all", 7 * day, int64(16 << 20), "", true, "one",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestFlagBeatsEnvironmentBeatsFile(t *testing.T) {
	t.Parallel()
	path := file(t, "retention: 1d\nsource_name: file\negress_http: true\nsource_tables: [public.a, sales.*]\nlisten: 127.0.0.1:1\n")
	c, err := read(t, append(required(), "ROWCALL_CONFIG="+path, "ROWCALL_SOURCE_NAME=env", "ROWCALL_RETENTION=2d", "ROWCALL_LISTEN="), "--retention=3d")
	if err != nil {
		t.Fatal(err)
	}
	got := []any{c.retention, c.sourceName, c.egressHTTP, c.sourceTables, c.listen}
	want := []any{3 * 24 * time.Hour, "env", true, []string{"public.a", "sales.*"}, "127.0.0.1:1"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if c, err = read(t, append(required(), "ROWCALL_EGRESS_HTTP=false"), "--config="+path); err != nil || c.egressHTTP {
		t.Errorf("the file's egress_http: true stands against the environment's false (%v)", err)
	}
}

func TestSecretsMayStandInFiles(t *testing.T) {
	t.Parallel()
	key := subscriptions.NewMasterKey()
	url := file(t, "postgres://app:pw@db/app\n")
	config := file(t, "api_key_file: "+file(t, "a-key-of-twenty-characters\n")+"\n")
	c, err := read(t, []string{"ROWCALL_DATABASE_URL_FILE=" + url, "ROWCALL_SECRET_KEY_FILE=" + file(t, key+"\r\n"), "ROWCALL_CONFIG=" + config})
	if err != nil {
		t.Fatal(err)
	}
	if c.databaseURL != "postgres://app:pw@db/app?sslmode=verify-full" || c.apiKey.Reveal() != "a-key-of-twenty-characters" || c.cipher == nil {
		t.Errorf("database URL %q, API key %q", c.databaseURL, c.apiKey.Reveal())
	}
}

func TestTheNameOfPublishedEventsIsNotForASource(t *testing.T) {
	t.Parallel()
	_, err := read(t, append(required(), "ROWCALL_SOURCE_NAME=http"))
	if err == nil || !strings.Contains(err.Error(), "ROWCALL_SOURCE_NAME") || !strings.Contains(err.Error(), "published") {
		t.Fatalf("error %v", err)
	}
}

func TestEveryFaultIsNamedWithItsRemedyInOneMessage(t *testing.T) {
	t.Parallel()
	_, err := read(t, []string{
		"ROWCALL_SOURCE_URL=postgres://app:hunter2@db:port/app",
		"ROWCALL_SOURCE_NAME=Main",
		`ROWCALL_SOURCE_TABLES=public."a`,
		"ROWCALL_INSTANCE=a b",
		"ROWCALL_API_KEY=hunter2",
		"ROWCALL_SECRET_KEY=hunter2",
		"ROWCALL_LISTEN=8080",
		"ROWCALL_TLS_CERT_FILE=/nowhere",
		"ROWCALL_PUBLIC_URL=rowcall.example",
		"ROWCALL_EGRESS_ALLOW=10.0.0.0/99",
		"ROWCALL_EGRESS_HTTP=perhaps",
		"ROWCALL_RETENTION=3 weeks",
		"ROWCALL_LOG_MAX_BYTES=1KiB",
		"ROWCALL_DEAD_RETENTION=1s",
		"ROWCALL_ATTEMPTS=some",
		"ROWCALL_ATTEMPTS_RETENTION=-7d",
		"ROWCALL_MAX_VALUE_BYTES=many",
		"ROWCALL_LOG_LEVEL=loud",
		"ROWCALL_LOG_FORMAT=xml",
		"ROWCALL_DATABASE_WAIT=a",
	})
	if err == nil {
		t.Fatal("accepted")
	}
	lines := strings.Split(err.Error(), "\n")
	for name, remedy := range map[string]string{
		"ROWCALL_DATABASE_URL": "postgres://", "ROWCALL_SOURCE_URL": "postgres://", "ROWCALL_SOURCE_NAME": "lower-case",
		"ROWCALL_SOURCE_TABLES": "schema.table", "ROWCALL_INSTANCE": "letters", "ROWCALL_API_KEY": "keygen", "ROWCALL_SECRET_KEY": "keygen",
		"ROWCALL_LISTEN": "127.0.0.1:8080", "ROWCALL_TLS_KEY_FILE": "both or neither", "ROWCALL_PUBLIC_URL": "https://",
		"ROWCALL_EGRESS_ALLOW": "private", "ROWCALL_EGRESS_HTTP": "true or false", "ROWCALL_RETENTION": "7d", "ROWCALL_LOG_MAX_BYTES": "at least",
		"ROWCALL_DEAD_RETENTION": "at least", "ROWCALL_ATTEMPTS": "failures", "ROWCALL_ATTEMPTS_RETENTION": "d", "ROWCALL_MAX_VALUE_BYTES": "MiB",
		"ROWCALL_LOG_LEVEL": "warn", "ROWCALL_LOG_FORMAT": "console", "ROWCALL_DATABASE_WAIT": "12h",
	} {
		var found bool
		for _, line := range lines {
			found = found || strings.HasPrefix(line, "  "+name+" ") && strings.Contains(line, remedy)
		}
		if !found {
			t.Errorf("%s is not named with its remedy (%s)", name, remedy)
		}
	}
	if lines[0] != "the configuration has 21 faults" || len(lines) != 22 {
		t.Errorf("want 21 faults, each in a line:\n%v", err)
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a secret is shown:\n%v", err)
	}
}

func TestSecretsAreGivenInOneWayAndNotAsFlags(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing")
	for name, test := range map[string]struct {
		env, flags []string
		want       string
	}{
		"as a flag": {flags: []string{"--api-key=hunter2hunter2hunter2"}, want: "--api-key shows a secret to everyone on this machine: set ROWCALL_API_KEY"},
		"twice": {
			env:  []string{"ROWCALL_API_KEY=hunter2hunter2hunter2", "ROWCALL_API_KEY_FILE=" + missing},
			want: "ROWCALL_API_KEY and ROWCALL_API_KEY_FILE are both set: unset one of them",
		},
		"in a missing file": {
			env:  []string{"ROWCALL_SOURCE_URL_FILE=" + missing},
			want: "ROWCALL_SOURCE_URL_FILE cannot be read (" + missing + ": no such file or directory)",
		},
		"in an empty file": {
			env:  []string{"ROWCALL_API_KEY_FILE=" + file(t, "\n")},
			want: "ROWCALL_API_KEY_FILE names an empty file",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := read(t, append(required(), test.env...), test.flags...)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Count(err.Error(), "\n") != 1 {
				t.Errorf("got %v, want the one fault %s", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a secret is shown: %v", err)
			}
		})
	}
}

func TestATLSFileOfADatabaseThatCannotBeReadIsNamed(t *testing.T) {
	t.Parallel()
	noPEM := file(t, "nothing")
	for path, want := range map[string]string{
		"/no/such/file": "ROWCALL_DATABASE_URL names a file that cannot be read (/no/such/file: no such file or directory): let sslrootcert",
		noPEM:           "ROWCALL_DATABASE_URL asks for TLS that cannot be had (unable to add CA to cert pool): correct sslmode, sslrootcert",
	} {
		_, err := read(t, append(required(), "ROWCALL_DATABASE_URL=postgres://a:hunter2@db/app?sslmode=verify-full&sslrootcert="+path))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestConfigurationFileIsRead(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ content, want string }{
		"an unknown key is named with its line": {"listen: :1\n\nretenion: 1d\n", `:3 has the unknown key "retenion": did you mean retention?`},
		"a key far from any is too":             {"frobnicate: 1\n", `:1 has the unknown key "frobnicate": see rowcall serve --help`},
		"config itself is no key":               {"config: other.yaml\n", `:1 has the unknown key "config"`},
		"a file of what is no secret is none":   {"listen_file: x\n", `:1 has the unknown key "listen_file"`},
		"a key stands once":                     {"listen: :1\nlisten: :2\n", `:2 sets listen a second time`},
		"a value is a value":                    {"listen:\n  host: x\n", `:2 gives listen something other than a value`},
		"so are the items of a list":            {"source_tables:\n  - [a]\n", `:2 gives source_tables something other than a value`},
		"what is not YAML is said":              {"listen: [\n", ` is not YAML: line`},
		"a list is no configuration":            {"- listen\n", `:1 does not begin with a setting`},
		"a wrong value is":                      {"log_level: loud\n", `ROWCALL_LOG_LEVEL is "loud"`},
		"an empty file is fine":                 {"", ""},
		"so is one of comments":                 {"# nothing\n", ""},
		"null sets nothing":                     {"log_level: null\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := file(t, test.content)
			_, err := read(t, required(), "--config="+path)
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
	if _, err := read(t, append(required(), "ROWCALL_CONFIG=/no/such/file")); err == nil || !strings.Contains(err.Error(), "ROWCALL_CONFIG cannot be read (/no/such/file") {
		t.Errorf("a missing file: %v", err)
	}
}

func TestVariablesThatNobodyReadsAreReported(t *testing.T) {
	t.Parallel()
	s := &settings{names: settingNames()}
	got := s.unknownEnv([]string{
		"PATH=/bin", "ROWCALL_RETENTION=1d", "ROWCALL_API_KEY_FILE=x", "ROWCALL_CONFIG=x", "ROWCALL_URL=x", "ROWCALL_EGRES_ALLOW=private", "ROWCALL_LISTEN_FILE=x",
		"ROWCALL_PORT=tcp://10.0.0.1:80", "ROWCALL_PORT_8080_TCP=x", "ROWCALL_SERVICE_HOST=10.0.0.1",
	})
	if d := cmp.Diff([]string{"ROWCALL_EGRES_ALLOW", "ROWCALL_LISTEN_FILE"}, got); d != "" {
		t.Error(d)
	}
	env := append(required()[1:], "ROWCALL_DATABASE_URL=postgres://a@127.0.0.1:1/app", "ROWCALL_DATABASE_WAIT=0s", "ROWCALL_EGRES_ALLOW=private")
	for _, command := range []string{"serve", "check"} {
		got := call(t, env, command)
		if said := got.stdout + got.stderr; got.code != exitFailed || !strings.Contains(said, "ROWCALL_EGRES_ALLOW") || !strings.Contains(said, "did you mean ROWCALL_EGRESS_ALLOW?") {
			t.Errorf("%s: %+v", command, got)
		}
	}
}

func TestTablesAreSplitOutsideOfQuotes(t *testing.T) {
	t.Parallel()
	for list, want := range map[string][]string{
		"public.*":                        {"public.*"},
		" public.a , sales.* ,":           {"public.a", "sales.*"},
		`public."a,b",public."say ""hi""`: nil,
		`public."a,b",s."x ""y"" z"`:      {`public."a,b"`, `s."x ""y"" z"`},
		" , ":                             nil,
	} {
		got, err := splitTables(list)
		if d := cmp.Diff(want, got); d != "" || (want == nil) != (err != nil) {
			t.Errorf("%s: %v\n%s", list, err, d)
		}
	}
}

func TestSizesAreReadInBothKindsOfUnit(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"0": 0, "1048576": 1 << 20, "16MiB": 16 << 20, "1.5 GiB": 3 << 29, "2GB": 2e9, "10kB": 10_000, "7B": 7,
		"": -1, "MiB": -1, "-1": -1, "1XB": -1, "1m": -1, "1e30TiB": -1, "NaN": -1,
	} {
		got, err := parseSize(text)
		if want < 0 && err == nil || want >= 0 && (err != nil || got != want) {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
}
