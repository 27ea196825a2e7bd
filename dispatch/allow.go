package dispatch

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// allowance is one entry of the allow list: addresses or a host pattern, and a
// port or none.
type allowance struct {
	prefixes []netip.Prefix
	host     string // "mail", or ".internal" for *.internal
	port     uint16 // 0: all but those of other protocols
}

// private is what the entry of that name stands for: loopback, RFC 1918, ULA.
var private = prefixes("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")

// parseAllow reads entries by commas:
//
//	private            loopback, RFC 1918, ULA
//	10.0.0.0/8  fd00::/8  10.1.2.3  [fd00::1]
//	mail  *.internal   what the name resolves to; * stands for one label or more
//
// each optionally with :port ([fd00::1]:8080), which also opens a port that is
// otherwise denied.
func parseAllow(text string) ([]allowance, error) {
	var list []allowance
	var faults []error
	for entry := range strings.SplitSeq(text, ",") {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		a, err := parseAllowance(entry)
		if err != nil {
			faults = append(faults, fmt.Errorf("entry %q: %w", entry, err))
			continue
		}
		list = append(list, a)
	}
	return list, errors.Join(faults...)
}

func parseAllowance(entry string) (allowance, error) {
	target, port := entry, ""
	if inner, ok := strings.CutPrefix(entry, "["); ok {
		var rest string
		if target, rest, ok = strings.Cut(inner, "]"); !ok {
			return allowance{}, errors.New("the bracket is not closed")
		}
		if port, ok = strings.CutPrefix(rest, ":"); !ok && rest != "" {
			return allowance{}, errors.New("want [address]:port")
		} else if ok && port == "" {
			return allowance{}, errors.New("the port is empty")
		}
	} else if i := strings.LastIndexByte(entry, ':'); i >= 0 && !isAddress(entry) {
		if target, port = entry[:i], entry[i+1:]; port == "" {
			return allowance{}, errors.New("the port is empty")
		}
	}
	var a allowance
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return allowance{}, errors.New("want a port from 1 to 65535")
		}
		a.port = uint16(n)
	}
	switch {
	case strings.EqualFold(target, "private"):
		a.prefixes = private
		return a, nil
	case isAddress(target):
		prefix, err := netip.ParsePrefix(target)
		if err != nil {
			addr := netip.MustParseAddr(target)
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		if prefix.Addr().Zone() != "" || prefix.Addr().Is4In6() {
			return allowance{}, errors.New("want a plain IPv4 or IPv6 address")
		}
		for _, n := range never {
			if n.Bits() <= prefix.Bits() && n.Contains(prefix.Addr()) {
				return allowance{}, fmt.Errorf("%s holds metadata or special addresses, which are never allowed", n)
			}
		}
		a.prefixes = []netip.Prefix{prefix.Masked()}
		return a, nil
	}
	name := target
	if suffix, ok := strings.CutPrefix(target, "*."); ok {
		name = suffix
		a.host = "."
	}
	if strings.Contains(name, "*") {
		return allowance{}, errors.New("want * only as the first label, as in *.internal")
	}
	canonical, err := canonicalHost(name, false)
	if err != nil {
		return allowance{}, errors.New(`want "private", a CIDR, an address or a host pattern, each with an optional :port`)
	}
	a.host += canonical
	return a, nil
}

func isAddress(s string) bool {
	_, err1 := netip.ParseAddr(s)
	_, err2 := netip.ParsePrefix(s)
	return err1 == nil || err2 == nil
}

// covers reports whether the entry allows a connection to addr, which host
// resolved to (or is).
func (a allowance) covers(host string, addr netip.AddrPort) bool {
	if a.port != 0 && a.port != addr.Port() {
		return false
	}
	if a.host != "" {
		return a.matches(host)
	}
	for _, p := range a.prefixes {
		if p.Contains(addr.Addr()) {
			return true
		}
	}
	return false
}

// matches reports whether the entry is a host pattern that fits the name.
func (a allowance) matches(host string) bool {
	if strings.HasPrefix(a.host, ".") {
		return strings.HasSuffix(host, a.host)
	}
	return a.host != "" && host == a.host
}
