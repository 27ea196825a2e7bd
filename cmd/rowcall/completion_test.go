package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/rowcall/rowcall/store/storetest"
)

// asCommand is a folder with this program as a command, rowcall.
func asCommand(t *testing.T) (bin string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin = t.TempDir()
	if err := os.Symlink(self, filepath.Join(bin, "rowcall")); err != nil {
		t.Fatal(err)
	}
	return bin
}

func TestBashCompletesCommandsFlagsAndTheirValues(t *testing.T) {
	t.Parallel()
	bin := asCommand(t)
	complete := func(words ...string) string {
		t.Helper()
		const script = `source <(rowcall completion bash)
COMP_WORDS=(rowcall "$@"); COMP_CWORD=$#
_rowcall; printf '%s ' "${COMPREPLY[@]}"`
		c := exec.CommandContext(t.Context(), "bash", append([]string{"-c", script, "bash"}, words...)...)
		c.Env = []string{asRowcall + "=1", "PATH=" + bin + ":" + os.Getenv("PATH"), "GOCOVERDIR=" + t.TempDir()}
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
	for _, test := range []struct{ words, want string }{
		{"sub", "subscriptions"},
		{"subscriptions re", "resume"},
		{"subs p", "pause preview probe"},
		{"deliveries retry --st", "--state"},
		{"deliveries retry --since 2h --s", "--since --state --subscription"},
		{"tail --of ", "attempts both events"},
		{"tail -o ", "json table"},
		{"tail --of ev", "events"},
		{"completion ", "bash fish zsh"},
		{"nothing --x ", complete("")}, // what is not known stands for nothing
		{"subscriptions get ", ""},     // a name: anything
	} {
		if got := complete(strings.Split(test.words, " ")...); got != test.want {
			t.Errorf("rowcall %s: %q, want %q", test.words, got, test.want)
		}
	}
	if all := complete(""); !strings.Contains(all, "serve") || !strings.Contains(all, "apply") || strings.Contains(complete("serve", "--"), "--api-key ") {
		t.Errorf("commands: %s", all)
	}
}

// completer asks a shell what may come next on a line.
type completer func(t *testing.T, env []string, line string) string

// completers are the shells that are here; .ci/setup installs those that are
// missing where it may.
func completers(t *testing.T) map[string]completer {
	t.Helper()
	bin := asCommand(t)
	run := func(t *testing.T, env []string, name string, args ...string) string {
		t.Helper()
		c := exec.CommandContext(t.Context(), name, args...)
		c.Env = append([]string{asRowcall + "=1", "PATH=" + bin + ":" + os.Getenv("PATH"), "GOCOVERDIR=" + t.TempDir(), "HOME=" + t.TempDir(), "TERM=dumb"}, env...)
		c.Dir = t.TempDir()
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
		return strings.Join(strings.Fields(string(out)), " ")
	}
	all := map[string]completer{
		"bash": func(t *testing.T, env []string, line string) string {
			t.Helper()
			const script = `source <(rowcall completion bash)
read -ra COMP_WORDS <<<"$1"; [[ $1 == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _rowcall; printf '%s\n' "${COMPREPLY[@]}"`
			return run(t, env, "bash", "-c", script, "bash", line)
		},
		"fish": func(t *testing.T, env []string, line string) string {
			t.Helper()
			return run(t, env, "fish", "--no-config", "-c", "rowcall completion fish | source; complete -C $argv[1] | string escape", line)
		},
		// zsh completes at a terminal alone: a key writes what stands on the line
		// once the first of what there is was taken.
		"zsh": func(t *testing.T, env []string, line string) string {
			t.Helper()
			const script = `zmodload zsh/zpty
mkdir fpath; rowcall completion zsh > fpath/_rowcall
zpty inner zsh -f -i
zpty -w inner 'fpath=($PWD/fpath $fpath); autoload -Uz compinit; compinit -u -D; LISTMAX=0; unsetopt list_beep; setopt menu_complete; PS1=; PS2='
zpty -w inner 'shown() { print -r -- "LINE<$BUFFER>" }; zle -N shown; bindkey "^X" shown; print REA""DY'
zpty -r inner out '*READY*'
zpty -w -n inner "$1"$'\t\x18'
zpty -r inner out '*LINE<*>*'
print -r -- "${${out##*LINE<}%%>*}"
zpty -d inner`
			return run(t, env, "zsh", "-f", "-c", script, "zsh", line)
		},
	}
	for name := range all {
		if _, err := exec.LookPath(name); err != nil {
			t.Logf("%s is not here: what completes in it is not tested", name)
			delete(all, name)
		}
	}
	return all
}

func TestEveryShellCompletesCommandsFlagsValuesAndSubscriptions(t *testing.T) {
	t.Parallel()
	c := newConfig(t, storetest.EmptyURL(t))
	env := clientEnv(start(t, c), c)
	for _, name := range []string{"paid", "pending orders"} {
		got := call(t, env, "subs", "create", "--name="+name, "--events=a.b", "--endpoint=http://127.0.0.1:9/h", "-o", "json")
		if got.code != exitOK {
			t.Fatalf("create: %+v", got)
		}
	}
	for shell, complete := range completers(t) {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			for _, test := range []struct {
				line  string
				words []string // what there is
			}{
				{"rowcall subsc", []string{"subscriptions"}},
				{"rowcall subscriptions p", []string{"pause", "preview", "probe"}},
				{"rowcall deliveries retry --st", []string{"--state"}},
				{"rowcall tail --of ", []string{"attempts", "both", "events"}},
				{"rowcall subs get pa", []string{"paid"}},
				{"rowcall subs update pen", []string{"pending orders"}},
				{"rowcall replay --dry-run p", []string{"paid", "pending orders"}},
				{"rowcall deliveries list --subscription pa", []string{"paid"}},
				{"rowcall tail --subscription pa", []string{"paid"}},
			} {
				got := complete(t, env, test.line)
				want := strings.Join(test.words, " ")
				before := test.line[:strings.LastIndexByte(test.line, ' ')+1]
				switch shell {
				case "bash":
					want = strings.ReplaceAll(want, "pending orders", `pending\ orders`)
				case "fish":
					want = strings.ReplaceAll(want, "pending orders", `'pending orders'`)
				case "zsh":
					want = before + strings.ReplaceAll(test.words[0], " ", `\ `)
				}
				if got != want {
					t.Errorf("%q: %q, want %q", test.line, got, want)
				}
			}
		})
	}
	// Without a key, and to another address, nobody is asked.
	for _, words := range [][]string{{"subs", "get", "--url", "http://127.0.0.1:9", "p"}, {"deliveries", "list", "--url=http://127.0.0.1:9", "--subscription", "s"}} {
		if got := call(t, env, append([]string{"completion", "words", "--"}, words...)...); got.code != exitOK || got.stdout != "" {
			t.Errorf("%q: %+v", words, got)
		}
	}
	if got := call(t, env[:1], "completion", "words", "--", "subs", "get", "p"); got.code != exitOK || got.stdout+got.stderr != "" {
		t.Errorf("without a key: %+v", got)
	}
}

// Who asks a command for help is shown how it is called.
func TestTheHelpOfEveryCommandShowsAnExample(t *testing.T) {
	t.Parallel()
	var walk func(node *kong.Node)
	parser, err := newParser(new(commands), &program{settings: &settings{env: lookupIn(nil), names: settingNames()}}, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	walk = func(node *kong.Node) {
		for _, child := range node.Children {
			walk(child)
		}
		if !node.Leaf() || node.Hidden {
			return
		}
		path := strings.TrimSpace(node.Path())
		if _, examples, found := strings.Cut(node.Detail, "Example"); !found || !strings.Contains(examples, "rowcall ") {
			t.Errorf("rowcall %s --help shows no example", path)
		}
		for line := range strings.Lines(node.Detail) {
			if len([]rune(line)) > 130 {
				t.Errorf("rowcall %s --help: a line of %d characters", path, len([]rune(line)))
			}
		}
	}
	walk(parser.Model.Node)
}

func TestABarShowsTheShareThatIsDone(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		done, total int64
		want        string
	}{
		{0, 10, "[....................]   0 %"},
		{1, 3, "[######..............]  33 %"},
		{10, 10, "[####################] 100 %"},
		{12, 10, "[####################] 100 %"},
		{0, 0, "[####################] 100 %"},
		{-1, 10, "[....................]   0 %"},
	} {
		if got := bar(test.done, test.total); got != test.want {
			t.Errorf("%d of %d: %s, want %s", test.done, test.total, got, test.want)
		}
	}
}
