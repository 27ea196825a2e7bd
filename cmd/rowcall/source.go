package main

import (
	"fmt"
	"strings"

	"github.com/rowcall/rowcall/capture/postgres"
)

// source is a database to capture.
type source struct {
	name, url string
	tables    []string
}

// sourcesKey is the list of more sources in the configuration file.
const sourcesKey = "sources"

// sources are all that are captured.
func (c *config) sources() []source {
	return append([]source{{c.sourceName, c.sourceURL, c.sourceTables}}, c.more...)
}

// databases are the addresses of the store and of every source.
func (c *config) databases() []string {
	all := []string{c.databaseURL}
	for _, src := range c.sources() {
		all = append(all, src.url)
	}
	return all
}

// moreSources are those of the configuration file, beside the first.
func (s *settings) moreSources(first source) []source {
	node := s.declares[sourcesKey]
	if node == nil {
		return nil
	}
	const remedy = "write a list of name, url and, where not all of public is meant, tables"
	var list []map[string]any
	if err := node.Decode(&list); err != nil {
		s.add(fault{place(s.path, node), "gives sources that are none", remedy})
		return nil
	}
	names := map[string]bool{first.name: true}
	var more []source
	for i, members := range list {
		at := func(member string) string {
			return strings.TrimSuffix(fmt.Sprintf("%s sources[%d].%s", place(s.path, node.Content[i]), i, member), ".")
		}
		for member := range members {
			if member != "name" && member != "url" && member != "tables" {
				s.add(fault{at(member), "is not known here", remedy})
			}
		}
		s.expand(at(""), members)
		name, _ := members["name"].(string)
		address, _ := members["url"].(string)
		src := source{name: name}
		if names[name] {
			s.add(fault{at("name"), fmt.Sprintf("is %q, as another source is called", name), "give each source a name of its own, and keep it"})
		}
		names[name] = true
		if address == "" {
			if !s.faulty(at("url")) {
				s.add(fault{at("url"), "is not set", "name the Postgres to capture; ${NAME} is an environment variable, ${file:/path} a file"})
			}
		} else {
			s.postgresURL(at("url"), address)
			src.url = s.secured(at("url"), address)
		}
		src.tables = s.checkSource(at, name, tableList(members["tables"]))
		more = append(more, src)
	}
	return more
}

// tableList is the value of tables: a text, or a list of them; by default all of public.
func tableList(v any) string {
	switch v := v.(type) {
	case nil:
		return "public.*"
	case string:
		return v
	case []any:
		items := make([]string, len(v))
		for i, item := range v {
			items[i] = fmt.Sprint(item)
		}
		return strings.Join(items, ",")
	}
	return fmt.Sprint(v)
}

// checkSource checks a source's name and tables; at names the setting of each.
func (s *settings) checkSource(at func(member string) string, name, list string) []string {
	if !sourceNamePattern.MatchString(name) {
		s.add(fault{at("name"), fmt.Sprintf("is %q", name), "use 1 to 55 lower-case letters, digits and _: it becomes part of a slot's name"})
	}
	if name == "http" {
		s.add(fault{at("name"), `is "http"`, "use another name: this one stands for events that are published to the API"})
	}
	const remedy = `write schema.table or schema.*, comma-separated, as in public.*,sales."Order"`
	tables, err := splitTables(list)
	if err != nil {
		s.add(fault{at("tables"), err.Error(), remedy})
	}
	for _, table := range tables {
		if err := postgres.CheckTable(table); err != nil {
			s.add(fault{at("tables"), "cannot be read: " + err.Error(), remedy})
		}
	}
	return tables
}
