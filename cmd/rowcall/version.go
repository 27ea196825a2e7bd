package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
)

// version and commit are set by the linker (-ldflags "-X main.version=v1.2.3")
// in builds that have no version control at hand; else Go's own build
// information says them.
var version, commit string

// build says what this binary was made from.
type build struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Go      string `json:"go"`
}

func buildInfo() build {
	b := build{Version: version, Commit: commit, Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = new(debug.BuildInfo)
	}
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	if b.Version == "" || b.Version == "(devel)" {
		b.Version = "devel"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && b.Commit == "" {
			b.Commit = s.Value
		}
	}
	b.Commit = cmp.Or(b.Commit, "unknown")
	return b
}

type versionCmd struct {
	Output string `short:"o" enum:"text,json" default:"text" help:"text, or json for programs."`
}

// Help is shown below the summary.
func (versionCmd) Help() string {
	return `Example:
  rowcall version -o json`
}

// Run prints version, commit and Go.
func (c *versionCmd) Run(p *program) error {
	b := buildInfo()
	if c.Output == "json" {
		return json.NewEncoder(p.stdout).Encode(b)
	}
	_, err := fmt.Fprintf(p.stdout, "rowcall %s\ncommit  %s\ngo      %s\n", b.Version, b.Commit, b.Go)
	return err
}
