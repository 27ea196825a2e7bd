package web

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// hosts are the names under which the console may be opened, with whether the
// browser speaks https there: a name that anybody can point at us, as in DNS
// rebinding, must not show anything.
type hosts map[string]bool

// newHosts are the public address, the loopback's names and, with TLS alone, the
// address that is listened on: a session must not cross a network in the clear
// unless the operator wrote so.
func newHosts(config Config) (hosts, error) {
	h := hosts{"localhost": config.TLS, "127.0.0.1": config.TLS, "::1": config.TLS}
	if config.PublicURL != "" {
		u, err := url.Parse(config.PublicURL)
		if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
			return nil, errors.New("PublicURL: want http or https and a host, without a path, as in https://rowcall.example.com")
		}
		h[hostName(u.Host)] = u.Scheme == "https"
	}
	if host, _, err := net.SplitHostPort(config.Listen); err == nil && config.TLS {
		if a, err := netip.ParseAddr(host); host != "" && (err != nil || !a.IsUnspecified()) {
			h[hostName(host)] = true
		}
	}
	return h, nil
}

// find reports whether a Host header is known, and whether it is spoken to by
// https.
func (h hosts) find(header string) (secure, ok bool) {
	secure, ok = h[hostName(header)]
	return secure, ok
}

// hostName is a host without its port, in one form.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if inner, ok := strings.CutPrefix(host, "["); ok && strings.HasSuffix(inner, "]") {
		return strings.TrimSuffix(inner, "]")
	}
	return host
}
