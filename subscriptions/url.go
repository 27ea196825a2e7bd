package subscriptions

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

const maxURLBytes = 2048

// CheckURL reports what keeps a text from being the URL of an endpoint, as far
// as the text alone shows it: whether the address behind it may be called is
// judged when it is dialled. Its error never holds the URL, which may hold a
// token.
func CheckURL(text string) error {
	switch {
	case text == "":
		return errors.New("is required")
	case len(text) > maxURLBytes:
		return fmt.Errorf("must have at most %d bytes", maxURLBytes)
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == '\\' || r == 0x7f }):
		return errors.New("must not have spaces, control characters or backslashes; percent-encode them")
	case strings.Contains(text, "#"):
		return errors.New("must not have a fragment; remove the # and what follows")
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return errors.New("must be a URL such as https://example.com/hooks")
	case u.Scheme != "https" && u.Scheme != "http":
		return errors.New("must start with https:// or http://")
	case u.Opaque != "" || u.Host == "":
		return errors.New("must name a host, as in https://example.com/hooks")
	case u.User != nil:
		return errors.New("must not have a user name or password; remove everything up to the @")
	case strings.ContainsFunc(text, func(r rune) bool { return r >= 0x80 }):
		return errors.New("must be ASCII; percent-encode the path, and write the host in its xn-- form")
	case strings.HasSuffix(u.Host, ":"):
		return errors.New("must have a port after the colon, or no colon")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return errors.New("must have a port from 1 to 65535")
		}
	}
	return checkHost(u.Hostname(), strings.HasPrefix(u.Host, "["))
}

// Origin is the scheme, host and port of a URL: it says who gets what is sent
// there. It is empty where the URL has no host.
func Origin(u *url.URL) string {
	port := u.Port()
	switch {
	case u.Hostname() == "":
		return ""
	case port == "" && u.Scheme == "http":
		port = "80"
	case port == "":
		port = "443"
	}
	return u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

func checkHost(host string, bracketed bool) error {
	last := host[strings.LastIndexByte(host, '.')+1:]
	if bracketed || isNumber(last) {
		// Resolvers take 127.1, 0x7f.0.0.1 and 2130706433 for addresses too; what
		// is shown to people and checked by lists must be what is dialled.
		address, err := netip.ParseAddr(host)
		if err != nil || address.Zone() != "" || address.String() != host {
			return errors.New("must have IP addresses in their canonical form, such as 192.0.2.1 or [2001:db8::1]")
		}
		return nil
	}
	if last == "" && host != "" {
		return errors.New("must have a host without a dot at its end")
	}
	if len(host) > 253 {
		return errors.New("must have a host of at most 253 characters")
	}
	for label := range strings.SplitSeq(host, ".") {
		wrong := strings.ContainsFunc(label, func(r rune) bool { return r >= 0x80 || !plain[r] || r == '$' })
		if wrong || label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return errors.New("must have a host of dot-separated names of 1 to 63 letters, digits, - or _")
		}
	}
	return nil
}

// isNumber reports whether the last part of a host makes it an address.
func isNumber(label string) bool {
	if hex, ok := strings.CutPrefix(strings.ToLower(label), "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return label != "" && strings.Trim(label, "0123456789") == ""
}
