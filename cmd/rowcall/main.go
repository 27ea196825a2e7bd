// Command rowcall captures Postgres row writes and calls webhooks.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2 // usage or configuration
)

// commands is the command line.
type commands struct {
	Config string `placeholder:"FILE" help:"YAML file of settings; a variable in the environment beats it, a flag beats both."`

	Serve   serveCmd   `cmd:"" help:"Run the service."`
	Demo    demoCmd    `cmd:"" help:"Show the main job in one command, with a Postgres and a receiver of its own."`
	Check   checkCmd   `cmd:"" help:"Explain whether source and store are fit, before anything is created."`
	Migrate migrateCmd `cmd:"" help:"Apply migrations and exit."`
	Health  healthCmd  `cmd:"" help:"Probe the running instance: exit code 0 where it is up."`
	Keygen  keygenCmd  `cmd:"" help:"Print a fresh secret key and API key, fit for an env file."`
	Version versionCmd `cmd:"" help:"Print version, commit and Go."`

	Completion completionCmd `cmd:"" help:"Print a script that completes commands in a shell."`

	Subscriptions subscriptionsCmd `cmd:"" aliases:"subs" help:"See and change subscriptions." group:"client"`
	Events        eventsCmd        `cmd:"" help:"See the log." group:"client"`
	Apply         applyCmd         `cmd:"" help:"Make subscriptions what a file declares." group:"client"`
	Tail          tailCmd          `cmd:"" help:"Follow events and attempts as they come." group:"client"`
	Deliveries    deliveriesCmd    `cmd:"" help:"See, retry and discard what could not be delivered." group:"client"`
	Log           logCmd           `cmd:"" help:"See what the log weighs, and which subscriptions keep it." group:"client"`
	Jobs          jobsCmd          `cmd:"" help:"See, pause and end bulk retries, discards and replays." group:"client"`
	DeadRanges    deadRangesCmd    `cmd:"" name:"dead-ranges" help:"List, retry and discard what was held for too long." group:"client"`
	Replay        replayCmd        `cmd:"" help:"Deliver a part of the log to a subscription again." group:"client"`
	Sources       sourcesCmd       `cmd:"" help:"See sources and their tables, and accept gaps." group:"client"`
	Keys          keysCmd          `cmd:"" help:"See, make and revoke API keys." group:"client"`
}

// program is what every command gets of the world around it.
type program struct {
	stdin          io.Reader
	stdout, stderr *os.File
	environ        []string
	settings       *settings
}

// usageError is a fault in how rowcall was called: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}

// run is the program: it maps errors to exit codes, and nothing else.
func run(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr *os.File) int {
	p := &program{stdin: stdin, stdout: stdout, stderr: stderr, environ: environ}
	p.settings = &settings{env: lookupIn(environ), names: settingNames()}
	err := execute(ctx, p, args)
	if err == nil {
		return exitOK
	}
	if _, silent := errors.AsType[exitError](err); !silent {
		fmt.Fprintln(stderr, "rowcall: "+err.Error())
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	if _, ok := errors.AsType[faultsError](err); ok {
		return exitUsage
	}
	return exitFailed
}

// exitError ends with exit code 1 and says nothing more: all has been printed.
type exitError struct{}

func (exitError) Error() string { return "failed" }

// execute parses the command line and runs the command that it names.
func execute(ctx context.Context, p *program, args []string) error {
	var (
		cli    commands
		helped bool
	)
	parser, err := newParser(&cli, p, func(int) { helped = true })
	if err != nil {
		return err
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	kctx, err := parser.Parse(args)
	if helped {
		return nil
	}
	if err != nil {
		name := "rowcall"
		if pe, ok := errors.AsType[*kong.ParseError](err); ok && pe.Context.Selected() != nil {
			node := pe.Context.Selected()
			name += " " + commandPath(node)
			if last := args[len(args)-1]; len(node.Children) > 0 && (last == node.Name || slices.Contains(node.Aliases, last)) {
				return execute(ctx, p, append(slices.Clone(args), "--help")) // which of its commands is meant?
			}
		}
		return usageError{fmt.Errorf("%w (%s --help explains)", err, name)}
	}
	p.settings.refuseSecretFlags(kctx)
	kctx.BindTo(ctx, (*context.Context)(nil))
	return kctx.Run(p)
}

// commandPath is a command as it is written, without the other names that it has.
func commandPath(node *kong.Node) string {
	path := node.Name
	for at := node.Parent; at != nil && at.Parent != nil; at = at.Parent {
		path = at.Name + " " + path
	}
	return path
}

func newParser(cli *commands, p *program, exit func(int)) (*kong.Kong, error) {
	return kong.New(cli,
		kong.Name("rowcall"),
		kong.Description("Row writes call webhooks: captures Postgres row writes and delivers them to webhooks, "+
			"at least once, in order per key, through outages."),
		kong.ExplicitGroups([]kong.Group{{Key: "client", Title: "Clients of a running instance (ROWCALL_URL, ROWCALL_API_KEY):"}}),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.ValueFormatter(p.settings.explain),
		kong.Writers(p.stdout, p.stderr),
		kong.Exit(exit),
		kong.Resolvers(p.settings),
	)
}

// explain adds a flag's environment variable to its help.
func (s *settings) explain(value *kong.Value) string {
	if value.Flag == nil || !s.reads(value.Flag) {
		return value.Help
	}
	return strings.TrimSpace(value.Help + " [" + envName(value.Name) + "]")
}

// settingNames are the keys of the configuration file: the settings of serve,
// and what the clients need to find it.
func settingNames() map[string]bool {
	names := map[string]bool{"config": false, "url": false}
	parser, err := kong.New(new(struct {
		serveFlags
	}))
	if err != nil {
		panic("settings: " + err.Error()) // the struct above is wrong
	}
	for _, flag := range parser.Model.Flags {
		if flag.Name != "help" {
			names[fileKey(flag.Name)] = flag.Tag.Has("secret")
		}
	}
	return names
}

// lookupIn looks variables up in a list of the form of os.Environ.
func lookupIn(environ []string) func(string) (string, bool) {
	variables := make(map[string]string, len(environ))
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		variables[name] = value
	}
	return func(name string) (string, bool) {
		value, ok := variables[name]
		return value, ok
	}
}
