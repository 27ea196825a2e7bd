package main

import (
	"strings"
	"testing"
)

func TestADatabaseBeyondThisMachineIsReachedOverTLSUnlessItIsSaidOtherwise(t *testing.T) {
	t.Parallel()
	full := "postgres://a:p%40@db:5433/app?sslmode=verify-full"
	for text, want := range map[string]string{ // "": refused
		"postgres://a:p%40@db:5433/app":                         full,
		full:                                                    full,
		"postgres://a@db/app?sslmode=disable":                   "postgres://a@db/app?sslmode=disable",
		"postgres://a@db/app?sslmode=require":                   "postgres://a@db/app?sslmode=require",
		"postgres://a@db/app?sslmode=prefer":                    "",
		"postgres://a@10.0.0.7/app?sslmode=allow":               "",
		"postgres://a@db/app?application_name=x":                "postgres://a@db/app?application_name=x&sslmode=verify-full",
		"postgres://a@127.0.0.1/app":                            "postgres://a@127.0.0.1/app",
		"postgres://a@[::1]/app?sslmode=prefer":                 "postgres://a@[::1]/app?sslmode=prefer",
		"postgres://a@localhost/app":                            "postgres://a@localhost/app",
		"postgres:///app?host=/var/run/postgresql":              "postgres:///app?host=/var/run/postgresql",
		"host=db user=a dbname=app":                             "host=db user=a dbname=app sslmode=verify-full",
		"host=db user=a sslmode = 'disable' dbname=app":         "host=db user=a sslmode = 'disable' dbname=app",
		"host=db user=a sslmode=prefer":                         "",
		"postgres://a@db1:5432,db2:5433/app":                    "postgres://a@db1:5432,db2:5433/app?sslmode=verify-full",
		"host=/tmp user=a dbname=app":                           "host=/tmp user=a dbname=app",
		"host=localhost,db user=a dbname=app password='a b=c '": "host=localhost,db user=a dbname=app password='a b=c ' sslmode=verify-full",
	} {
		s := &settings{env: lookupIn(nil)}
		got := s.secured("database_url", text)
		if err := s.err(); (err != nil) != (want == "") || err == nil && got != want {
			t.Errorf("%s: %s, %v, want %s", text, got, err, want)
		}
	}
	for mode, refused := range map[string]bool{"disable": false, "prefer": true} {
		s := &settings{env: lookupIn([]string{"PGSSLMODE=" + mode})}
		if got := s.secured("source_url", "postgres://a@db/app"); s.err() == nil == refused || got != "postgres://a@db/app" {
			t.Errorf("PGSSLMODE=%s: %s, %v", mode, got, s.err())
		}
	}
	if c, err := read(t, required()); err != nil || !strings.HasSuffix(c.databaseURL, "?sslmode=verify-full") || c.sourceURL != c.databaseURL {
		t.Errorf("%s, %v", c.databaseURL, err)
	}
	if _, err := read(t, append(required(), "ROWCALL_SOURCE_URL=postgres://a@db/app?sslmode=prefer")); err == nil || !strings.Contains(err.Error(), "ROWCALL_SOURCE_URL asks for sslmode=prefer") {
		t.Errorf("a source without it: %v", err)
	}
}
