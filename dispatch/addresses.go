package dispatch

import (
	"net/netip"
	"slices"

	"code.dny.dev/ssrf"
)

// public knows which addresses belong to the public internet: the table of the
// IANA registries, and what it lacks.
var public = ssrf.New(ssrf.WithAnyPort(), ssrf.WithAnyNetwork(),
	ssrf.WithDeniedV4Prefixes(prefixes(
		"168.63.129.16/32", // Azure's platform address, public by its number only
		"192.88.99.0/24",   // 6to4 relays
	)...),
	ssrf.WithDeniedV6Prefixes(prefixes(
		"2001:20::/28", "2001:30::/28", // ORCHIDv2, drone identifiers
		"3ffe::/16", "5f00::/16", // 6bone, segment routing
		"2620:4f:8000::/48", // AS112
	)...),
)

// never are addresses that no setting allows: nothing on them is a receiver of
// webhooks, and what answers there hands out credentials or is ourselves.
var never = prefixes(
	"0.0.0.0/8", "::/128", // "this host": connects to ourselves
	"169.254.0.0/16", "fe80::/10", // link-local: metadata of AWS, GCP, Azure, OCI, DO, Tencent
	"224.0.0.0/4", "ff00::/8", "255.255.255.255/32", // multicast, broadcast
	"168.63.129.16/32",                                       // Azure
	"100.100.100.200/32",                                     // Alibaba
	"192.0.0.192/32",                                         // OCI classic
	"fd00:ec2::/32",                                          // AWS
	"fd20:ce::254/128",                                       // GCP
	"fd00:c1::a9fe:a9fe/128", "fd00:42::42/128", "fec0::/10", // OCI, Scaleway, old site-local
)

func prefixes(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		list[i] = netip.MustParsePrefix(text)
	}
	return list
}

// neverAllowed reports the prefix of never that addr is in, itself or as the
// IPv4 address that it carries through a translator.
func neverAllowed(addr netip.Addr) (netip.Prefix, bool) {
	for _, p := range never {
		if p.Contains(addr) {
			return p, true
		}
	}
	for _, carried := range carriedIPv4(addr) {
		for _, p := range never {
			// 0.0.0.0/8 only says that nothing is carried at this place.
			if p.Contains(carried) && carried.As4()[0] != 0 {
				return p, true
			}
		}
	}
	return netip.Prefix{}, false
}

// Prefixes of IPv6 addresses that carry an IPv4 address.
var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	nat64Local = netip.MustParsePrefix("64:ff9b:1::/48")
	sixToFour  = netip.MustParsePrefix("2002::/16")
	teredo     = netip.MustParsePrefix("2001::/32")
	translated = netip.MustParsePrefix("::ffff:0:0:0/96")
	compatible = netip.MustParsePrefix("::/96")
)

// carriedIPv4 returns the IPv4 addresses at which packets to an IPv6 address
// may end up through a translator or tunnel; several for the NAT64 prefix of
// local use, whose length only the network knows (RFC 6052, section 2.2).
func carriedIPv4(addr netip.Addr) []netip.Addr {
	if !addr.Is6() {
		return nil
	}
	b := addr.As16()
	v4 := func(i, j, k, l int) netip.Addr { return netip.AddrFrom4([4]byte{b[i], b[j], b[k], b[l]}) }
	switch {
	case sixToFour.Contains(addr):
		return []netip.Addr{v4(2, 3, 4, 5)}
	case teredo.Contains(addr):
		for i := 12; i < 16; i++ {
			b[i] = ^b[i]
		}
		return []netip.Addr{v4(4, 5, 6, 7), v4(12, 13, 14, 15)} // its server, and the client
	case nat64Local.Contains(addr):
		return []netip.Addr{v4(6, 7, 9, 10), v4(7, 9, 10, 11), v4(9, 10, 11, 12), v4(12, 13, 14, 15)}
	case nat64.Contains(addr), translated.Contains(addr), compatible.Contains(addr):
		return []netip.Addr{v4(12, 13, 14, 15)}
	}
	return nil
}

// ports of other protocols, which a POST could be made to speak to.
var deniedPorts = []uint16{
	22, 23, 25, 53, 110, 143, 389, 445, 465, 587, 993, 995, 1433, 1521, 2049, 2375, 2376, 2379, 2380, 3306, 3389,
	5432, 5672, 6379, 9042, 9092, 9200, 11211, 27017,
}

// deniedPort reports whether only an entry with a port in the allow list opens
// the port.
func deniedPort(port uint16) bool {
	_, found := slices.BinarySearch(deniedPorts, port)
	return found || port == 0
}
