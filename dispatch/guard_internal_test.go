package dispatch

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
)

// addresses is every kind of address that must not be reached, and some that
// must; class says what opens it.
var addresses = map[string][]string{
	// The public internet.
	"public": {
		"1.1.1.1", "8.8.8.8", "9.9.9.9", "93.184.216.34", "11.0.0.1", "9.255.255.255", "126.255.255.255", "128.0.0.1",
		"100.63.255.255", "100.128.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0",
		"192.0.1.0", "192.0.3.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "198.51.99.255",
		"198.51.101.0", "203.0.112.255", "203.0.114.0", "223.255.255.255", "168.63.129.15", "168.63.129.17",
		"2606:4700:4700::1111", "2001:4860:4860::8888", "2a00:1450:4001::200e", "2001:200::1", "2003::1", "2620:fe::fe",
		"2400::1", "3ffd::1", "::ffff:8.8.8.8",
	},
	// What "private" opens.
	"private": {
		"127.0.0.1", "127.0.0.2", "127.255.255.255", "127.1.2.3", "10.0.0.0", "10.0.0.1", "10.255.255.255",
		"172.16.0.0", "172.16.0.1", "172.31.255.255", "192.168.0.0", "192.168.1.1", "192.168.255.255",
		"::1", "fc00::1", "fd00::1", "fdff:ffff::1", "fd12:3456:789a::1",
		"::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:192.168.0.1", "::ffff:172.16.0.1",
	},
	// What only a CIDR or a host pattern of the operator opens.
	"special": {
		"100.64.0.0", "100.64.0.1", "100.127.255.255", "192.0.0.1", "192.0.0.8", "192.0.0.170", "192.0.2.1", "192.0.2.255",
		"192.31.196.1", "192.52.193.1", "192.88.99.1", "192.175.48.1", "198.18.0.1", "198.19.255.255", "198.51.100.1",
		"203.0.113.1", "203.0.113.255", "240.0.0.1", "250.1.2.3", "255.255.255.254", "255.0.0.1",
		"64:ff9b::808:808", "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::1", "64:ff9b:1:ffff::a00:1", "64:ff9b::",
		"2002::1", "2002:808:808::1", "2002:7f00:1::1", "2002:a00:1::1", "2002:c0a8:101::1",
		"2001::1", "2001:0:1::1", "2001:1::1", "2001:2::1", "2001:3::1", "2001:10::1", "2001:20::1", "2001:30::1",
		"2001:1ff:ffff::1", "2001:db8::1", "2001:db8:ffff::1", "2620:4f:8000::1", "3fff::1", "3fff:fff::1", "3ffe::1", "5f00::1",
		"100::1", "100:0:0:1::1", "::2", "::7f00:1", "::a00:1", "::808:808", "::ffff:0:808:808", "::ffff:0:7f00:1",
		"1fff::1", "4000::1", "8000::1", "fe00::1", "e000::1",
		"::ffff:100.64.0.1", "::ffff:198.18.0.1", "::ffff:203.0.113.1",
	},
	// What nothing opens.
	"never": {
		"0.0.0.0", "0.0.0.1", "0.1.2.3", "0.255.255.255", "::", "::ffff:0.0.0.0",
		"169.254.0.0", "169.254.169.254", "169.254.170.2", "169.254.170.23", "169.254.169.253", "169.254.0.23", "169.254.42.42",
		"169.254.255.255", "::ffff:169.254.169.254", "fe80::1", "fe80::a9fe:a9fe", "febf:ffff::1", "fec0::1", "feff::1",
		"224.0.0.1", "224.0.0.251", "232.1.1.1", "239.255.255.255", "255.255.255.255", "::ffff:224.0.0.1", "::ffff:255.255.255.255",
		"ff00::1", "ff01::1", "ff02::1", "ff02::fb", "ff05::2", "ff0e::1",
		"168.63.129.16", "::ffff:168.63.129.16", "100.100.100.200", "::ffff:100.100.100.200", "192.0.0.192",
		"fd00:ec2::254", "fd00:ec2::23", "fd00:ec2::253", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "fd00:42::42",
		"64:ff9b::a9fe:a9fe", "64:ff9b::6464:64c8", "64:ff9b:1::a9fe:a9fe", "64:ff9b:1:a9fe:a9:fe00::", "2002:a9fe:a9fe::1",
		"2002:6464:64c8::", "2002:e000:1::1", "2001::5601:5601", "2001:0:a9fe:a9fe::1", "::a9fe:a9fe", "::ffff:0:a9fe:a9fe",
	},
}

func TestEveryAddressIsOpenedByWhatItsClassSaysAlone(t *testing.T) {
	t.Parallel()
	guards := map[string]*Guard{}
	for name, allow := range map[string]string{
		"nothing": "", "private": "private", "everything": "0.0.0.0/0, ::/0", "its name": "*.example", "another name": "*.other",
	} {
		g, err := NewGuard(GuardConfig{Allow: allow})
		if err != nil {
			t.Fatal(err)
		}
		guards[name] = g
	}
	open := map[string][]string{ // class → guards that let it through
		"public":  {"nothing", "private", "everything", "its name", "another name"},
		"private": {"private", "everything", "its name"},
		"special": {"everything", "its name"},
		"never":   {},
	}
	count := 0
	for class, texts := range addresses {
		for _, text := range texts {
			count++
			want := map[string]bool{}
			for _, name := range open[class] {
				want[name] = true
			}
			for name, g := range guards {
				addr := netip.AddrPortFrom(netip.MustParseAddr(text), 443)
				err := g.permit("hook.example", addr, false)
				if (err == nil) != want[name] {
					t.Errorf("%s (%s) with %s allowed: %v", text, class, name, err)
				}
			}
		}
	}
	if count < 120 {
		t.Errorf("%d addresses", count)
	}
}

func TestAnAddressWithAZoneIsRefused(t *testing.T) {
	t.Parallel()
	g, err := NewGuard(GuardConfig{Allow: "::/0"})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.permit("x", netip.MustParseAddrPort("[2606:4700::1%eth0]:443"), false); err == nil {
		t.Error("allowed")
	}
}

func TestPlainHTTPAndPorts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		allow     string
		plainHTTP bool
		host      string
		addr      string
		plain, ok bool
	}{
		{"", false, "a.test", "8.8.8.8:443", false, true},
		{"", false, "a.test", "8.8.8.8:80", true, false}, // https to the public
		{"", true, "a.test", "8.8.8.8:80", true, true},
		{"8.8.8.8", false, "a.test", "8.8.8.8:80", true, true}, // allowed targets may be plain
		{"a.test", false, "a.test", "8.8.8.8:80", true, true},
		{"*.test", false, "b.a.test", "8.8.8.8:80", true, true},
		{"*.test", false, "test", "10.0.0.1:80", true, false}, // * is a label at least
		{"*.test", false, "atest", "10.0.0.1:80", true, false},
		{"a.test", false, "b.a.test", "10.0.0.1:80", true, false},
		{"private", true, "a.test", "10.0.0.1:8080", true, true},
		{"private:8080", false, "a.test", "10.0.0.1:8080", true, true},
		{"private:8080", false, "a.test", "10.0.0.1:8081", true, false},
		{"10.0.0.0/8:9999", false, "a.test", "10.1.1.1:9999", true, true},
		{"10.0.0.0/8:9999", false, "a.test", "11.1.1.1:9999", true, false},
		{"[fd00::/8]:9999", false, "a.test", "[fd00::5]:9999", true, true},
		{"[fd00::5]:9999", false, "a.test", "[fd00::5]:9998", true, false},
		{"mail:8025", false, "mail", "172.17.0.3:8025", true, true},
		{"mail:8025", false, "mail", "172.17.0.3:8026", true, false},
		// Ports of other protocols need their number written out.
		{"", false, "a.test", "8.8.8.8:25", false, false},
		{"", false, "a.test", "8.8.8.8:6379", false, false},
		{"private", false, "a.test", "10.0.0.1:5432", true, false},
		{"a.test", false, "a.test", "10.0.0.1:22", true, false},
		{"a.test:22", false, "a.test", "10.0.0.1:22", true, true},
		{"private:5432", false, "a.test", "10.0.0.1:5432", true, true},
		{"8.8.8.8:25", false, "a.test", "8.8.8.8:25", false, true},
		{"0.0.0.0/0", false, "a.test", "8.8.8.8:0", false, false},
	} {
		g, err := NewGuard(GuardConfig{Allow: c.allow, PlainHTTP: c.plainHTTP})
		if err != nil {
			t.Fatal(err)
		}
		if err := g.permit(c.host, netip.MustParseAddrPort(c.addr), c.plain); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestDenyWinsOverEverythingThatIsAllowed(t *testing.T) {
	t.Parallel()
	deny := []netip.AddrPort{
		netip.MustParseAddrPort("0.0.0.0:8080"),           // our listener
		netip.MustParseAddrPort("10.0.0.5:5432"),          // the store
		netip.MustParseAddrPort("[::ffff:10.0.0.6]:5433"), // the source
	}
	g, err := NewGuard(GuardConfig{Allow: "private, a.test, a.test:8080, private:5432, 10.0.0.5:5432, 10.0.0.6:5433, ::/0", Deny: deny})
	if err != nil {
		t.Fatal(err)
	}
	for addr, ok := range map[string]bool{
		"127.0.0.1:8080": false, "127.0.0.53:8080": false, "[::1]:8080": false, "[::ffff:127.0.0.1]:8080": false,
		"10.0.0.5:5432": false, "[::ffff:10.0.0.5]:5432": false, "10.0.0.6:5433": false,
		"127.0.0.1:8081": true, "10.0.0.7:5432": true, "10.0.0.5:5433": true, "8.8.8.8:8080": true,
	} {
		if err := g.permit("a.test", netip.MustParseAddrPort(addr), true); (err == nil) != ok {
			t.Errorf("%s: %v", addr, err)
		}
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range own {
		ip, _ := netip.AddrFromSlice(a.(*net.IPNet).IP)
		if err := g.permit("a.test", netip.AddrPortFrom(ip, 8080), true); err == nil {
			t.Errorf("our listener on every address is reached at %s", ip)
		}
	}
}

func TestAllowListEntriesAtFaultAreNamed(t *testing.T) {
	t.Parallel()
	for _, entry := range []string{
		"*", "*.*.internal", "a.*", "foo bar", "http://x", "10.0.0.0/33", "10.0.0.1:0", "10.0.0.1:70000", "mail:", "mail:http",
		"[fd00::1", "[fd00::1]x", "[fd00::1]:", "169.254.169.254", "169.254.0.0/16", "fe80::/64", "fe80::1%eth0", "100.100.100.200",
		"::ffff:10.0.0.1", "0x7f.1", "2130706433", "127.1", "*.", ".internal", "a..b", "user@host", "fd00:ec2::254", "224.0.0.1",
	} {
		_, err := NewGuard(GuardConfig{Allow: "private, " + entry + ", mail"})
		if err == nil {
			t.Errorf("%q accepted", entry)
		} else if got := err.Error(); !strings.Contains(got, strconv.Quote(entry)) {
			t.Errorf("%q is not named: %v", entry, err)
		}
	}
	for _, list := range []string{"", " ", ",", "private", "PRIVATE", "Mail, *.Internal:8080", "my_service:3000", "10.0.0.1/8", "fd00::1", "::1", "[::1]", "10.0.0.0/8:80,[fd00::]:1", "bücher.example", "mail."} {
		if _, err := NewGuard(GuardConfig{Allow: list}); err != nil {
			t.Errorf("%q: %v", list, err)
		}
	}
}
