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
		got := s.secured(envName("database_url"), text)
		if err := s.err(); (err != nil) != (want == "") || err == nil && got != want {
			t.Errorf("%s: %s, %v, want %s", text, got, err, want)
		}
	}
	for mode, refused := range map[string]bool{"disable": false, "prefer": true} {
		s := &settings{env: lookupIn([]string{"PGSSLMODE=" + mode})}
		if got := s.secured(envName("source_url"), "postgres://a@db/app"); s.err() == nil == refused || got != "postgres://a@db/app" {
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

func TestWhatIsWeakerThanVerifyFullIsSaidWithItsRemedy(t *testing.T) {
	t.Parallel()
	for text, warned := range map[string]bool{
		"postgres://a@db/app":                                               false,
		"postgres://a@db/app?sslmode=verify-full":                           false,
		"postgres://a@db/app?sslmode=verify-ca":                             true,
		"postgres://a@db/app?sslmode=require":                               true,
		"postgres://a@db/app?sslmode=disable":                               true,
		"host=db user=a sslmode=require":                                    true,
		"postgres://a@127.0.0.1/app?sslmode=disable":                        false,
		"postgres:///app?host=/var/run/postgresql&sslmode=disable":          false,
		"postgres://a@localhost,db/app?application_name=x&sslmode=disable":  true,
		"postgres://a:hunter2@10.0.0.7:5433,10.0.0.8/app?sslmode=verify-ca": true,
	} {
		s := &settings{env: lookupIn(nil)}
		s.secured(envName("database_url"), text)
		if s.err() != nil || (len(s.warnings) == 1) != warned || len(s.warnings) > 1 {
			t.Errorf("%s: %v, %v", text, s.warnings, s.err())
		}
		for _, w := range s.warnings {
			if !strings.Contains(w.String(), "ROWCALL_DATABASE_URL has sslmode=") || !strings.Contains(w.remedy, "verify-full") || strings.Contains(w.String(), "hunter2") {
				t.Errorf("%s: %s", text, w)
			}
		}
	}
	s := &settings{env: lookupIn(nil)}
	authority, _ := certificate(t)
	s.secured(envName("source_url"), "postgres://a@db/app?sslmode=require&sslrootcert="+authority)
	if len(s.warnings) != 1 || !strings.Contains(s.warnings[0].problem, "of that authority") {
		t.Errorf("require with an authority: %v", s.warnings)
	}
	env := append(required()[1:], "ROWCALL_DATABASE_URL=postgres://a:hunter2@db.invalid/app?sslmode=require", "ROWCALL_DATABASE_WAIT=0s")
	got := call(t, env, "serve")
	if got.code != exitFailed || strings.Count(got.stderr, "nobody checks with whom") != 1 || !strings.Contains(got.stderr, `"level":"warn"`) ||
		!strings.Contains(got.stderr, "sslmode=verify-full, with sslrootcert") || strings.Contains(got.stderr, "hunter2") {
		t.Errorf("serve: %+v", got)
	}
	if got := call(t, env, "check"); !strings.Contains(got.stdout, "! config  ROWCALL_DATABASE_URL has sslmode=require") || got.code != exitFailed {
		t.Errorf("check: %+v", got)
	}
}
