package main

import (
	"bytes"
	"errors"
	"fmt"
	"html"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/rowcall/rowcall/store/storetest"
)

// asRowcall makes the test binary behave as rowcall itself.
const asRowcall = "ROWCALL_TEST_AS_ROWCALL"

func TestMain(m *testing.M) {
	if os.Getenv(asRowcall) != "" {
		main()
		return
	}
	storetest.Main(m, func() { _ = os.RemoveAll(builtIn) })
}

// builtIn is the folder of the program as it is built for users, which TestMain removes.
var builtIn string

var buildOnce = sync.OnceValues(func() (path string, err error) {
	if builtIn, err = os.MkdirTemp("", "rowcall-built-"); err != nil {
		return "", err
	}
	path = filepath.Join(builtIn, "rowcall")
	out, err := exec.Command("go", "build", "-buildvcs=false", "-o", path, ".").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, out)
	}
	return path, err
})

// built is the program as it is built for users, for tests of memory, of latency,
// and of many events: the race detector multiplies all of these.
func built(t *testing.T) string {
	t.Helper()
	path, err := buildOnce()
	if err != nil {
		t.Fatalf("build rowcall: %v", err)
	}
	return path
}

// rowcall prepares a run of the program with nothing in its environment but env.
func rowcall(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), self, args...)
	c.Env = append([]string{asRowcall + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "GOCOVERDIR=" + t.TempDir()}, env...)
	c.Dir = t.TempDir()
	return c
}

// result is what a run of the program left.
type result struct {
	code           int
	stdout, stderr string
}

// call runs the program to its end.
func call(t *testing.T, env []string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	c := rowcall(t, env, args...)
	c.Stdout, c.Stderr = &stdout, &stderr
	err := c.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	return result{c.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

func TestExitCodesTellUsageFromFailure(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args, env []string
		code      int
		stderr    string // contained in it
	}{
		"version is fine":         {args: []string{"version"}},
		"help is fine":            {args: []string{"serve", "--help"}},
		"no command shows help":   {},
		"nor does half a command": {args: []string{"subs"}},
		"a command has one name":  {args: []string{"subs", "get"}, code: exitUsage, stderr: "(rowcall subscriptions get --help explains)"},
		"a wrong flag is no configuration": {
			args: []string{"deliveries", "list", "--since=yesterday"}, env: []string{"ROWCALL_API_KEY=x"}, code: exitUsage,
			stderr: "the command line has 1 fault\n  --since is",
		},
		"an unknown command is usage": {args: []string{"serv"}, code: exitUsage, stderr: `did you mean "serve"?`},
		"an unknown flag is usage":    {args: []string{"serve", "--nope"}, code: exitUsage, stderr: "rowcall serve --help"},
		"settings that are missing are configuration": {
			args: []string{"serve"}, code: exitUsage, stderr: "ROWCALL_DATABASE_URL is not set",
		},
		"a store that refuses us is a failure": {
			args: []string{"migrate"}, env: []string{"ROWCALL_DATABASE_URL=postgres://127.0.0.1:1/x", "ROWCALL_DATABASE_WAIT=0s"},
			code: exitFailed, stderr: "gave up after 0s (ROWCALL_DATABASE_WAIT)",
		},
		"nobody at the address that is probed is a failure": {
			args: []string{"health", "--listen=127.0.0.1:1"}, code: exitFailed, stderr: "probe instance",
		},
		"a duration that is none is configuration": {
			args: []string{"health", "--timeout=soon"}, code: exitUsage, stderr: `--timeout is "soon"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := call(t, test.env, test.args...)
			if got.code != test.code || !strings.Contains(got.stderr, test.stderr) {
				t.Errorf("exit code %d, want %d; stderr:\n%s\nwant in it: %s", got.code, test.code, got.stderr, test.stderr)
			}
			if test.code == exitOK && got.stderr != "" {
				t.Errorf("stderr: %s", got.stderr)
			}
			if test.code != exitOK && got.stdout != "" {
				t.Errorf("stdout of a failure: %s", got.stdout)
			}
		})
	}
}

func TestKeygenPrintsAnEnvFileThatServeAccepts(t *testing.T) {
	t.Parallel()
	first, second := call(t, nil, "keygen"), call(t, nil, "keygen")
	if first.code != exitOK || first.stdout == second.stdout {
		t.Fatalf("exit code %d; two runs:\n%s%s", first.code, first.stdout, second.stdout)
	}
	env := strings.Split(strings.TrimSpace(first.stdout), "\n")
	if len(env) != 2 {
		t.Fatalf("want two lines:\n%s", first.stdout)
	}
	env = append(env, "ROWCALL_DATABASE_URL=postgres://db/app")
	c, err := read(t, env)
	if err != nil {
		t.Fatal(err)
	}
	if c.cipher == nil || c.apiKey.IsZero() {
		t.Error("the keys did not arrive")
	}
}

func TestVersionSaysWhatItWasBuiltFrom(t *testing.T) {
	t.Parallel()
	got := call(t, nil, "version", "-o", "json")
	for _, member := range []string{`"version":"`, `"commit":"`, `"go":"go1.`} {
		if !strings.Contains(got.stdout, member) {
			t.Errorf("no %s in %s", member, got.stdout)
		}
	}
}

// What pages tell people to type is what the program takes: at a command with
// --url it would send the API key there.
func TestCommandsThatThePagesShowAreTaken(t *testing.T) {
	t.Parallel()
	templates, err := filepath.Glob("../../web/templates/*.html")
	if err != nil || len(templates) == 0 {
		t.Fatalf("no templates: %v", err)
	}
	seen := map[string]bool{}
	for _, path := range templates {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, shown := range regexp.MustCompile(`<pre[^>]*>rowcall ([^<{]+)</pre>`).FindAllStringSubmatch(string(content), -1) {
			args := strings.Fields(strings.ReplaceAll(html.UnescapeString(shown[1]), "'", ""))
			var cli commands
			p := &program{settings: &settings{env: lookupIn(nil), names: settingNames()}, stdout: os.Stdout, stderr: os.Stderr}
			parser, err := newParser(&cli, p, func(int) {})
			if err != nil {
				t.Fatal(err)
			}
			kctx, err := parser.Parse(args)
			if err != nil {
				t.Errorf("%s shows %q: %v", path, shown[1], err)
				continue
			}
			seen[kctx.Command()] = true
			create := &cli.Subscriptions.Create
			if kctx.Command() == "subscriptions create" && (create.Endpoint == "" || create.URL != "http://127.0.0.1:8080") {
				t.Errorf("%s shows %q: the endpoint is %q, and the API at %q", path, shown[1], create.Endpoint, create.URL)
			}
		}
	}
	if !seen["subscriptions create"] {
		t.Errorf("no page shows how to make a subscription: %v", seen)
	}
}

func TestADocumentThatIsTooLargeIsRefusedNotCut(t *testing.T) {
	t.Parallel()
	c := rowcall(t, []string{"ROWCALL_API_KEY=x", "ROWCALL_URL=http://127.0.0.1:1"}, "subscriptions", "create", "-f", "-")
	// Cut at a mebibyte it would be a document like any other.
	c.Stdin = strings.NewReader("name: x\nevents: [a]\nendpoint: {url: https://r.test}\n" + strings.Repeat("# \n", maxBodyBytes/3))
	var stderr bytes.Buffer
	c.Stderr = &stderr
	if err := c.Run(); c.ProcessState == nil || c.ProcessState.ExitCode() != exitUsage || !strings.Contains(stderr.String(), "standard input is larger than 1048576 bytes") {
		t.Errorf("%v: %s", err, stderr.String())
	}
}
