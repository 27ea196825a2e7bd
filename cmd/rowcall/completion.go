package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Bash  bashCompletionCmd  `cmd:"" help:"Print the script for bash."`
	Zsh   zshCompletionCmd   `cmd:"" help:"Print the script for zsh."`
	Fish  fishCompletionCmd  `cmd:"" help:"Print the script for fish."`
	Words completionWordsCmd `cmd:"" hidden:"" help:"Print what may come next: what the scripts ask."`
}

type (
	bashCompletionCmd struct{}
	zshCompletionCmd  struct{}
	fishCompletionCmd struct{}
)

// Help is shown below the summary.
func (bashCompletionCmd) Help() string {
	return `Examples:
  source <(rowcall completion bash)                       # in this shell
  rowcall completion bash > /etc/bash_completion.d/rowcall`
}

// Help is shown below the summary.
func (zshCompletionCmd) Help() string {
	return `Examples:
  source <(rowcall completion zsh)                        # in this shell, after compinit
  rowcall completion zsh > "${fpath[1]}/_rowcall"`
}

// Help is shown below the summary.
func (fishCompletionCmd) Help() string {
	return `Examples:
  rowcall completion fish | source                        # in this shell
  rowcall completion fish > ~/.config/fish/completions/rowcall.fish`
}

// Run prints the script.
func (bashCompletionCmd) Run(p *program) error {
	_, err := fmt.Fprint(p.stdout, `_rowcall() {
  local IFS=$'\n'
  COMPREPLY=($(rowcall completion words -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _rowcall rowcall
`)
	return err
}

// Run prints the script.
func (zshCompletionCmd) Run(p *program) error {
	_, err := fmt.Fprint(p.stdout, `#compdef rowcall
_rowcall() {
  local -a next
  next=("${(@f)$(rowcall completion words -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ -n "$next" ]]; then compadd -- "${next[@]}"; else _files; fi
}
compdef _rowcall rowcall
`)
	return err
}

// Run prints the script.
func (fishCompletionCmd) Run(p *program) error {
	_, err := fmt.Fprint(p.stdout, `complete -c rowcall -a '(rowcall completion words -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
`)
	return err
}

type completionWordsCmd struct {
	Words []string `arg:"" optional:"" help:"What was written, the last word as far as it goes."`
}

// Run prints what may come next, a word a line; nothing where that is anything.
func (c *completionWordsCmd) Run(p *program) error {
	parser, err := newParser(new(commands), p, func(int) {})
	if err != nil {
		return err
	}
	for _, word := range nextWords(parser.Model.Node, c.Words) {
		if _, err := fmt.Fprintln(p.stdout, word); err != nil {
			return err
		}
	}
	return nil
}

// nextWords are the words that may stand in the place of the last one.
func nextWords(node *kong.Node, words []string) []string {
	last := ""
	if len(words) > 0 {
		words, last = words[:len(words)-1], words[len(words)-1]
	}
	var wants *kong.Flag // the value of this flag comes next
	for _, word := range words {
		if wants != nil {
			wants = nil
			continue
		}
		if strings.HasPrefix(word, "-") {
			if flag := flagOf(node, word); flag != nil && !flag.IsBool() && !strings.Contains(word, "=") {
				wants = flag
			}
			continue
		}
		for _, child := range node.Children {
			if child.Name == word || slices.Contains(child.Aliases, word) {
				node = child
				break
			}
		}
	}
	var found []string
	switch {
	case wants != nil:
		found = wants.EnumSlice()
	case strings.HasPrefix(last, "-"):
		for _, group := range node.AllFlags(true) {
			for _, flag := range group {
				found = append(found, "--"+flag.Name)
			}
		}
	default:
		for _, child := range node.Children {
			if !child.Hidden {
				found = append(found, child.Name)
			}
		}
	}
	found = slices.DeleteFunc(found, func(word string) bool { return word == "" || !strings.HasPrefix(word, last) })
	slices.Sort(found)
	return slices.Compact(found)
}

// flagOf is the flag that a word names, nil where there is none.
func flagOf(node *kong.Node, word string) *kong.Flag {
	name, _, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")
	for _, group := range node.AllFlags(false) {
		for _, flag := range group {
			if flag.Name == name || len(name) == 1 && flag.Short == rune(name[0]) {
				return flag
			}
		}
	}
	return nil
}
