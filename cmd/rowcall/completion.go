package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/rowcall/rowcall/api/client"
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
	_, err := io.WriteString(p.stdout, `_rowcall() {
  local word
  COMPREPLY=()
  while IFS= read -r word; do
    COMPREPLY+=("$(printf %q "$word")")
  done < <(rowcall completion words -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
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
if [[ "$funcstack[1]" == _rowcall ]]; then
  _rowcall # found by name in fpath: this is the first time that it is asked
else
  compdef _rowcall rowcall
fi
`)
	return err
}

// Run prints the script.
func (fishCompletionCmd) Run(p *program) error {
	_, err := fmt.Fprint(p.stdout, `function __rowcall_complete
    set -l next (rowcall completion words -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null)
    if set -q next[1]
        string join -- \n $next
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c rowcall -f -k -a '(__rowcall_complete)'
`)
	return err
}

type completionWordsCmd struct {
	clientFlags
	Words []string `arg:"" optional:"" help:"What was written, the last word as far as it goes."`
}

// namesTimeout bounds how long a key press waits for names.
const namesTimeout = 2 * time.Second

// Run prints what may come next, a word a line; nothing where that is anything, or
// where nobody answers who knows.
func (c *completionWordsCmd) Run(ctx context.Context, p *program) error {
	parser, err := newParser(new(commands), p, func(int) {})
	if err != nil {
		return err
	}
	next, named := nextWords(parser.Model.Node, c.Words)
	if named {
		next = c.subscriptions(ctx, c.Words[len(c.Words)-1])
	}
	for _, word := range next {
		if _, err := fmt.Fprintln(p.stdout, word); err != nil {
			return err
		}
	}
	return nil
}

// subscriptions are the names of subscriptions that begin as given. Without
// a key there are none to be had.
func (c *completionWordsCmd) subscriptions(ctx context.Context, begin string) []string {
	if c.APIKey == "" {
		return nil
	}
	api, err := client.New(client.Config{BaseURL: c.URL, Key: c.APIKey, Timeout: namesTimeout, UserAgent: "rowcall/" + buildInfo().Version})
	if err != nil {
		return nil
	}
	found, err := api.Subscriptions(ctx, client.SubscriptionQuery{PageQuery: client.PageQuery{Limit: 1000}})
	if err != nil {
		return nil
	}
	var begun []string
	for _, sub := range found.Items {
		if name := sub.Name; strings.HasPrefix(name, begin) && name == clean(name) && !strings.Contains(name, "\n") {
			begun = append(begun, name)
		}
	}
	slices.Sort(begun)
	return begun
}

// nextWords are the words that may stand in the place of the last one; named: the
// name of a subscription stands there. Nobody is asked for names where the line says
// --url: the key is not sent to an address that is still being written.
func nextWords(node *kong.Node, words []string) (next []string, named bool) {
	last := ""
	if len(words) > 0 {
		words, last = words[:len(words)-1], words[len(words)-1]
	}
	var wants *kong.Flag // the value of this flag comes next
	elsewhere, arguments := false, 0
	for _, word := range words {
		if wants != nil {
			wants = nil
			continue
		}
		if strings.HasPrefix(word, "-") {
			flag := flagOf(node, word)
			elsewhere = elsewhere || flag != nil && flag.Name == "url"
			if flag != nil && !flag.IsBool() && !strings.Contains(word, "=") {
				wants = flag
			}
			continue
		}
		at := slices.IndexFunc(node.Children, func(child *kong.Node) bool {
			return child.Name == word || slices.Contains(child.Aliases, word)
		})
		if at < 0 {
			arguments++
			continue
		}
		node = node.Children[at]
	}
	var found []string
	switch {
	case wants != nil && wants.Name == "subscription" && !elsewhere:
		return nil, true
	case wants != nil:
		found = wants.EnumSlice()
	case strings.HasPrefix(last, "-"):
		for _, group := range node.AllFlags(true) {
			for _, flag := range group {
				found = append(found, "--"+flag.Name)
			}
		}
	case arguments < len(node.Positional) && node.Positional[arguments].Name == "subscription" && !elsewhere:
		return nil, true
	default:
		for _, child := range node.Children {
			if !child.Hidden {
				found = append(found, child.Name)
			}
		}
	}
	found = slices.DeleteFunc(found, func(word string) bool { return word == "" || !strings.HasPrefix(word, last) })
	slices.Sort(found)
	return slices.Compact(found), false
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
