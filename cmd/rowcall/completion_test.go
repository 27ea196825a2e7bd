package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

func TestBashCompletesCommandsFlagsAndTheirValues(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := os.Symlink(self, filepath.Join(bin, "rowcall")); err != nil {
		t.Fatal(err)
	}
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
