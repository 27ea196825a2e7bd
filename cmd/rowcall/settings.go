package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// envPrefix begins the name of every environment variable that rowcall reads.
const envPrefix = "ROWCALL_"

// maxConfigBytes and maxSecretBytes cap what is read from files that settings name.
const (
	maxConfigBytes = 1 << 20
	maxSecretBytes = 64 << 10
)

// settings gives flags that were not on the command line their values: from the
// environment, else from the configuration file. (kong's own order is the other
// way round, and it stops at the first fault; both are why this exists.)
//
// Flags that are settings of serve are read so, and those that say which instance to
// ask and how to print its answer; any other flag counts where it is written, so that
// a variable set for one command is not taken by another. The tag flagonly makes one
// of the latter of a flag that is called as a setting.
//
// A flag --some-name is ROWCALL_SOME_NAME in the environment and some_name in
// the file. A flag that carries the tag secret may also be given as the name of
// a file that holds it: ROWCALL_SOME_NAME_FILE, some_name_file. An environment
// variable that is empty counts as not set.
//
// Nothing here returns an error: faults are collected, so that one message can
// name all of them.
type settings struct {
	env    func(string) (string, bool)
	names  map[string]bool // of every flag, as keys of the file; true: secret
	file   map[string]string
	loaded bool
	faults []fault

	warnings []fault // what is let through, and is to be said

	path     string                // of the file
	declares map[string]*yaml.Node // its members that are no settings: subscriptions, and more sources
}

// fault is one thing wrong with the settings. It never holds a secret's value.
type fault struct {
	setting string // as the person wrote it: a variable, a flag, or file:line
	problem string
	remedy  string
}

func (f fault) String() string {
	return f.setting + " " + f.problem + ": " + f.remedy
}

// faultsError is every fault of the settings in one message.
type faultsError []fault

func (e faultsError) Error() string {
	var b strings.Builder
	place := "configuration"
	if !slices.ContainsFunc(e, func(f fault) bool { return !strings.HasPrefix(f.setting, "--") }) {
		place = "command line"
	}
	fmt.Fprintf(&b, "the %s has %s", place, plural(len(e), "fault"))
	for _, f := range e {
		b.WriteString("\n  " + f.String())
	}
	return b.String()
}

// add records a fault, once.
func (s *settings) add(f fault) {
	if !slices.Contains(s.faults, f) {
		s.faults = append(s.faults, f)
	}
}

// warn records what is let through, once.
func (s *settings) warn(f fault) {
	if !slices.Contains(s.warnings, f) {
		s.warnings = append(s.warnings, f)
	}
}

// err is nil when there is no fault.
func (s *settings) err() error {
	if len(s.faults) == 0 {
		return nil
	}
	return faultsError(s.faults)
}

// Validate implements kong.Resolver.
func (s *settings) Validate(*kong.Application) error { return nil }

// Resolve implements kong.Resolver.
func (s *settings) Resolve(kctx *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	key := fileKey(flag.Name)
	if !s.reads(flag) {
		return nil, nil
	}
	value, from, ok := s.lookup(key, flag.Tag.Has("secret"))
	if !ok && key != "config" {
		s.load(kctx)
		value, from, ok = s.inFile(key, flag.Tag.Has("secret"))
	}
	if !ok {
		return nil, nil
	}
	if flag.IsBool() {
		if _, err := strconv.ParseBool(value); err != nil {
			s.add(fault{from, fmt.Sprintf("is %q", value), "write true or false"})
			return nil, nil
		}
	}
	return value, nil
}

// reads reports whether a flag may be given by the environment.
func (s *settings) reads(flag *kong.Flag) bool {
	_, known := s.names[fileKey(flag.Name)]
	return (known || flag.Name == "output") && !flag.Tag.Has("flagonly")
}

// called is how a person writes a setting, or a flag that is none.
func (s *settings) called(key string) string {
	if _, known := s.names[key]; known || s.names == nil {
		return envName(key)
	}
	return "--" + strings.ReplaceAll(key, "_", "-")
}

// refuseSecretFlags records a fault for every secret that stands on the command
// line, where every process of the machine can read it.
func (s *settings) refuseSecretFlags(kctx *kong.Context) {
	for _, path := range kctx.Path {
		if path.Flag == nil || path.Resolved || !path.Flag.Hidden || !path.Flag.Tag.Has("secret") {
			continue
		}
		name := envName(path.Flag.Name)
		s.add(fault{
			"--" + path.Flag.Name, "shows a secret to everyone on this machine",
			"set " + name + ", or " + name + "_FILE to a file that holds it",
		})
	}
}

// lookup finds a setting in the environment.
func (s *settings) lookup(key string, secret bool) (value, from string, ok bool) {
	name := envName(key)
	value, _ = s.env(name)
	if !secret {
		return value, name, value != ""
	}
	path, _ := s.env(name + "_FILE")
	if value != "" && path != "" {
		s.add(fault{name, "and " + name + "_FILE are both set", "unset one of them"})
		return "", "", true
	}
	if path != "" {
		return s.readSecret(name+"_FILE", path)
	}
	return value, name, value != ""
}

// inFile finds a setting in the configuration file.
func (s *settings) inFile(key string, secret bool) (value, from string, ok bool) {
	from = key + " in the configuration file"
	if value, ok = s.file[key]; ok || !secret {
		return value, from, ok
	}
	path, ok := s.file[key+"_file"]
	if !ok {
		return "", "", false
	}
	return s.readSecret(key+"_file in the configuration file", path)
}

// readSecret reads a value that a setting gives as a file. What cannot be read
// counts as set, so that it is not reported as missing too.
func (s *settings) readSecret(from, path string) (string, string, bool) {
	content, err := readCapped(path, maxSecretBytes)
	value := strings.TrimRight(string(content), "\r\n")
	switch {
	case err != nil:
		s.add(fault{from, "cannot be read (" + reason(err) + ")", "name a file that rowcall may read"})
	case strings.TrimSpace(value) == "":
		s.add(fault{from, "names an empty file", "put the value into " + path})
	}
	return value, from, true
}

// load reads the configuration file that --config or ROWCALL_CONFIG names, once.
func (s *settings) load(kctx *kong.Context) {
	if s.loaded {
		return
	}
	s.loaded = true
	path, from := "", "--config"
	for _, p := range kctx.Path {
		if p.Flag != nil && p.Flag.Name == "config" {
			path, _ = kctx.FlagValue(p.Flag).(string)
		}
	}
	if path == "" {
		path, from, _ = s.lookup("config", false)
	}
	if path == "" {
		return
	}
	content, err := readCapped(path, maxConfigBytes)
	if err != nil {
		s.add(fault{from, "cannot be read (" + reason(err) + ")", "name a YAML file that rowcall may read"})
		return
	}
	s.parse(path, content)
}

// parse reads a configuration file: one mapping of settings, in which an
// unknown, repeated or nested key is a fault that is named with its line.
func (s *settings) parse(path string, content []byte) {
	s.file, s.path, s.declares = make(map[string]string), path, make(map[string]*yaml.Node)
	var document yaml.Node
	err := yaml.NewDecoder(bytes.NewReader(content)).Decode(&document)
	if errors.Is(err, io.EOF) {
		return // an empty file sets nothing
	}
	if err != nil {
		s.add(fault{path, "is not YAML", strings.TrimPrefix(err.Error(), "yaml: ")})
		return
	}
	root := document.Content[0]
	if root.Kind != yaml.MappingNode {
		s.add(fault{place(path, root), "does not begin with a setting", "write lines such as listen: 127.0.0.1:8080"})
		return
	}
	for i := 0; i < len(root.Content); i += 2 {
		key, node := root.Content[i], root.Content[i+1]
		if declarationKeys[key.Value] || key.Value == sourcesKey {
			if s.declares[key.Value] != nil {
				s.add(fault{place(path, key), "has " + key.Value + " a second time", "keep one of them"})
			}
			s.declares[key.Value] = node
			continue
		}
		if !s.known(key.Value) {
			s.add(fault{place(path, key), fmt.Sprintf("has the unknown key %q", key.Value), s.nearest(key.Value)})
			continue
		}
		if _, twice := s.file[key.Value]; twice {
			s.add(fault{place(path, key), "sets " + key.Value + " a second time", "keep one of them"})
			continue
		}
		value, ok := scalar(node)
		if !ok {
			s.add(fault{place(path, node), "gives " + key.Value + " something other than a value", "write one value, or a list of them"})
			continue
		}
		if value != "" {
			s.file[key.Value] = value
		}
	}
}

// known reports whether a key of the configuration file is a setting.
func (s *settings) known(key string) bool {
	if _, ok := s.names[key]; ok {
		return key != "config"
	}
	plain, isFile := strings.CutSuffix(key, "_file")
	return isFile && s.names[plain]
}

// nearest is the remedy for a key that does not exist.
func (s *settings) nearest(key string) string {
	if near, ok := s.near(key); ok {
		return "did you mean " + near + "?"
	}
	return "see rowcall serve --help for the settings there are"
}

// near is the key that looks most like another; false where none does.
func (s *settings) near(key string) (string, bool) {
	best, distance := "", len(key)/2+1
	names := maps.Clone(s.names)
	for name := range declarationKeys {
		names[name] = false
	}
	names[sourcesKey] = false
	for name := range names {
		if d := editDistance(key, name); d < distance || d == distance && name < best {
			best, distance = name, d
		}
	}
	return best, best != ""
}

// unknownEnv returns the ROWCALL_ variables that no command reads: most likely
// misspelt. Those that Kubernetes makes for a service called rowcall, and
// those of tests, are not meant.
func (s *settings) unknownEnv(environ []string) []string {
	var unknown []string
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		rest, ours := strings.CutPrefix(name, envPrefix)
		if !ours || rest == "PORT" || strings.HasPrefix(rest, "PORT_") || strings.HasPrefix(rest, "SERVICE_") ||
			strings.HasPrefix(rest, "TEST_") || rest == "PG_BIN" {
			continue
		}
		if key := strings.ToLower(rest); key != "config" && key != "output" && !s.known(key) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	return unknown
}

// ignored is a warning for every variable that nobody reads.
func (s *settings) ignored(environ []string) []fault {
	var found []fault
	for _, name := range s.unknownEnv(environ) {
		remedy := "see rowcall serve --help for the settings there are"
		near, _ := s.near(strings.ToLower(strings.TrimPrefix(name, envPrefix)))
		if _, variable := s.names[near]; variable {
			remedy = "did you mean " + envName(near) + "?"
		}
		found = append(found, fault{name, "is no setting, and is ignored", remedy})
	}
	return found
}

// scalar is a YAML value as a flag would be given: a list becomes its items
// with commas between them.
func scalar(n *yaml.Node) (string, bool) {
	switch n.Kind {
	case yaml.ScalarNode:
		if n.Tag == "!!null" {
			return "", true
		}
		return n.Value, true
	case yaml.SequenceNode:
		items := make([]string, len(n.Content))
		for i, item := range n.Content {
			if item.Kind != yaml.ScalarNode {
				return "", false
			}
			items[i] = item.Value
		}
		return strings.Join(items, ","), true
	default:
		return "", false
	}
}

func place(path string, n *yaml.Node) string { return path + ":" + strconv.Itoa(n.Line) }

// envName is the environment variable of a setting.
func envName(key string) string { return envPrefix + strings.ToUpper(fileKey(key)) }

// fileKey is a flag's name in the configuration file.
func fileKey(flag string) string { return strings.ReplaceAll(flag, "-", "_") }

// readCapped reads a file that must not be larger than limit.
func readCapped(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAtMost(f, path, limit)
}

// readAtMost reads all of what is called name; that it is larger is an error.
func readAtMost(r io.Reader, name string, limit int64) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(content)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return content, nil
}

// reason is an error's text without the operation in front of the path.
func reason(err error) string {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		return pe.Path + ": " + pe.Err.Error()
	}
	return err.Error()
}

// editDistance is the number of letters to add, drop or change between a and b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal, row[j+1] = row[j+1], min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// plural writes a number with its noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if stem, ok := strings.CutSuffix(noun, "y"); ok {
		noun = stem + "ie"
	}
	return strconv.Itoa(n) + " " + noun + "s"
}
