package main

import (
	"net/netip"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// How sslmode is written in a connection string of pairs, and in a URL.
var (
	sslModeForm  = regexp.MustCompile(`(?:^|\s)sslmode\s*=\s*'?([a-z-]+)`)
	sslModeQuery = regexp.MustCompile(`[?&]sslmode=([a-z-]+)`)
)

// weakModes are modes of TLS that prove less than verify-full, with what they
// leave open.
var weakModes = map[string]string{
	"disable":   "rows and password cross the network in the clear",
	"require":   "the connection is encrypted, and nobody checks with whom",
	"verify-ca": "any server with a certificate of that authority is taken for this one",
}

// secured returns the connection string with the TLS that it needs: verify-full
// where it goes beyond this machine and names no sslmode. What it names counts,
// but for prefer and allow, which whoever stands in between can take away. What
// proves less than verify-full is let through with a warning: many a managed
// Postgres has a certificate that nobody can verify, and who is refused require
// there would write disable.
func (s *settings) secured(setting, text string) string {
	parsed, err := pgconn.ParseConfig(text)
	if err != nil || !beyondLoopback(parsed) {
		return text
	}
	form, add := sslModeForm, " sslmode=verify-full"
	if strings.HasPrefix(text, "postgres://") || strings.HasPrefix(text, "postgresql://") {
		form, add = sslModeQuery, "?sslmode=verify-full"
		if strings.Contains(text, "?") {
			add = "&sslmode=verify-full"
		}
	}
	var mode string
	if found := form.FindStringSubmatch(text); found != nil {
		mode = found[1]
	} else {
		mode, _ = s.env("PGSSLMODE")
	}
	switch mode {
	case "prefer", "allow":
		s.add(fault{
			setting, "asks for sslmode=" + mode + ", which goes on without TLS where somebody in between wants it",
			"write sslmode=verify-full, or sslmode=disable where the network itself is trusted",
		})
	case "":
		return text + add
	default:
		weak := weakModes[mode]
		if authority, _ := s.env("PGSSLROOTCERT"); mode == "require" && (authority != "" || strings.Contains(text, "sslrootcert")) {
			weak = weakModes["verify-ca"] // which it is then, by the word of libpq
		}
		if weak != "" {
			s.warn(fault{
				setting, "has sslmode=" + mode + ": " + weak,
				"write sslmode=verify-full, with sslrootcert=/path/of/ca.pem for a private authority",
			})
		}
	}
	return text
}

// beyondLoopback reports whether any of the hosts may be another machine.
func beyondLoopback(c *pgconn.Config) bool {
	hosts := []string{c.Host}
	for _, f := range c.Fallbacks {
		hosts = append(hosts, f.Host)
	}
	for _, host := range hosts {
		if strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || host == "localhost" {
			continue
		}
		if addr, err := netip.ParseAddr(host); err != nil || !addr.Unmap().IsLoopback() {
			return true
		}
	}
	return false
}
