package dispatch_test

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/rowcall/rowcall/dispatch"
	"github.com/rowcall/rowcall/dispatch/hooktest"
)

func TestCheckURL(t *testing.T) {
	t.Parallel()
	long := "https://example.com/" + strings.Repeat("a", 2048)
	for _, c := range []struct {
		allow string
		url   string
		ok    bool
	}{
		{"", "https://example.com/hook?x=1", true},
		{"", "https://example.com", true},
		{"", "https://example.com./", true},
		{"", "https://EXAMPLE.com/", true},
		{"", "https://bücher.example/", true},
		{"", "https://my_host.example.com/", true},
		{"", "https://example.com:8443/", true},
		{"", "https://8.8.8.8/", true},
		{"", "https://[2606:4700:4700::1111]/", true},
		{"", "https://[2606:4700:4700::1111]:8443/", true},
		{"", "HTTPS://example.com/", true},
		// Form.
		{"", "", false},
		{"", "example.com/hook", false},
		{"", "//example.com/hook", false},
		{"", "https:example.com", false},
		{"", "https:///hook", false},
		{"", "https://", false},
		{"", "https://:443/", false},
		{"", "https://./", false},
		{"", "https://a..b/", false},
		{"", "https://user@example.com/", false},
		{"", "https://user:pass@example.com/", false},
		{"", "https://@example.com/", false},
		{"", "https://example.com/#top", false},
		{"", "https://example.com/#", false},
		{"", "https://example.com:/", false},
		{"", "https://example.com:0/", false},
		{"", "https://example.com:0443/", false},
		{"", "https://example.com:65536/", false},
		{"", "https://example.com:http/", false},
		{"", "https://exa mple.com/", false},
		{"", "https://example.com/a b", false},
		{"", "https://example.com/\r\nX: y", false},
		{"", "https://example.com/\x00", false},
		{"", "https://example.com\\@10.0.0.1/", false},
		{"", "https://%31%32%37.0.0.1/", false},
		{"", "https://exam%70le.com/", false},
		{"", "https://" + strings.Repeat("a", 64) + ".com/", false},
		{"", long, false},
		{"", "ftp://example.com/", false},
		{"", "file:///etc/passwd", false},
		{"", "gopher://example.com/", false},
		{"", "unix:///run/docker.sock", false},
		{"", "javascript:alert(1)", false},
		// Addresses in other clothes.
		{"private", "https://2130706433/", false},
		{"private", "https://0x7f000001/", false},
		{"private", "https://0x7f.1/", false},
		{"private", "https://127.1/", false},
		{"private", "https://127.0.0.01/", false},
		{"private", "https://0177.0.0.1/", false},
		{"private", "https://127.0.0.1./", false},
		{"private", "https://１２７.０.０.１/", false},
		{"private", "https://127。0。0。1/", false},
		{"private", "https://[::ffff:127.0.0.1]/", false},
		{"private", "https://[0:0:0:0:0:0:0:1]/", false},
		{"private", "https://[::1%25lo]/", false},
		{"private", "https://[FD00::1]/", false},
		{"private", "https://1.2.3.4.5/", false},
		{"private", "https://example.0/", false},
		// Targets.
		{"", "http://example.com/", false},
		{"", "https://127.0.0.1/", false},
		{"", "https://10.0.0.1/", false},
		{"", "https://[::1]/", false},
		{"", "https://[fd00::1]/", false},
		{"", "https://169.254.169.254/latest", false},
		{"", "https://localhost/", false},
		{"", "https://app.localhost/", false},
		{"", "https://LOCALHOST:3000/", false},
		{"", "http://8.8.8.8/", false},
		{"", "https://example.com:25/", false},
		{"", "https://example.com:5432/", false},
		{"", "https://example.com:27017/", false},
		{"private", "http://127.0.0.1:3000/", true},
		{"private", "http://localhost:3000/", true},
		{"private", "http://[::1]:3000/", true},
		{"private", "http://10.1.2.3/", true},
		{"private", "http://mail:8025/", true}, // what it resolves to is seen when it does
		{"private", "http://8.8.8.8/", false},
		{"private", "https://169.254.169.254/", false},
		{"private", "http://10.0.0.1:6379/", false},
		{"private:6379", "http://10.0.0.1:6379/", true},
		{"mail", "http://mail:8025/", true},
		{"mail", "http://other:8025/", false},
		{"mail:8025", "http://mail:8026/", false},
		{"mail:25", "http://mail:25/", true},
		{"mail", "http://mail:25/", false},
		{"*.internal", "http://hooks.mail.internal/", true},
		{"*.internal", "http://internal/", false},
		{"bücher.example", "http://xn--bcher-kva.example/", true},
		{"8.8.8.8", "http://8.8.8.8/", true},
		{"private", "http://127.0.0.1:9999/", false}, // our own listener
		{"private", "http://localhost:9999/", false},
	} {
		guard := newGuard(t, dispatch.GuardConfig{Allow: c.allow, Deny: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:9999")}})
		if err := guard.CheckURL(c.url); (err == nil) != c.ok {
			t.Errorf("%q with %q allowed: %v", c.url, c.allow, err)
		}
	}
}

func TestEveryBlockedAddressGivesTheSameTextThatNamesTheRemedy(t *testing.T) {
	t.Parallel()
	guard := newGuard(t, dispatch.GuardConfig{Deny: []netip.AddrPort{netip.MustParseAddrPort("8.8.8.8:443")}})
	texts := map[string]bool{}
	for _, target := range []string{"10.0.0.1", "127.0.0.1:9", "169.254.169.254", "8.8.8.8", "[::1]", "1.1.1.1:22", "localhost"} {
		err := guard.CheckURL("https://" + target + "/")
		if _, ok := errors.AsType[*dispatch.BlockedError](err); !ok {
			t.Fatalf("%s: %v", target, err)
		}
		texts[err.Error()] = true
	}
	for text := range texts {
		if len(texts) != 1 || !strings.Contains(text, "ROWCALL_EGRESS_ALLOW") {
			t.Errorf("texts: %v", texts)
		}
	}
}

func TestCheckURLNeverRepeatsTheURL(t *testing.T) {
	t.Parallel()
	guard := newGuard(t, dispatch.GuardConfig{})
	for _, raw := range []string{
		"https://u:CANARY@example.com/", "https://example.com/CANARY b", "https://10.0.0.1/CANARY", "CANARY://x", "https://[CANARY/",
		"https://example.com:CANARY/", "http://example.com/CANARY", "https://CANARY..com/", "https://%zzCANARY/",
	} {
		if err := guard.CheckURL(raw); err == nil || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%q: %v", raw, err)
		}
	}
}

// trap counts connections that should never come.
func trap(t *testing.T) (port string, connections func() int) {
	t.Helper()
	receiver := hooktest.Start(t, hooktest.Config{})
	_, port, err := net.SplitHostPort(strings.TrimSuffix(strings.TrimPrefix(receiver.URL(), "http://"), "/hook"))
	if err != nil {
		t.Fatal(err)
	}
	return port, func() int { return receiver.Counts().Received }
}

func TestWhatANameResolvesToIsCheckedAtEveryConnect(t *testing.T) {
	t.Parallel()
	port, arrived := trap(t)
	server := startDNS(t, map[string][]string{
		"inside.test": {"127.0.0.1"},
		"mixed.test":  {"8.8.8.8", "127.0.0.1"},
		"meta.test":   {"169.254.169.254"},
		"six.test":    {"::1"},
		"wide.test":   {"2606:4700::1", "fe80::1"},
		"carry.test":  {"64:ff9b::a9fe:a9fe"},
		"good.test":   {"127.0.0.1"},
	})
	for _, c := range []struct{ allow, host, want string }{
		{"", "inside.test", "blocked"},
		{"", "six.test", "blocked"},
		{"", "mixed.test", "blocked"}, // one denied answer is enough
		{"", "wide.test", "blocked"},
		{"other.test", "inside.test", "blocked"},
		{"good.test:1", "good.test", "blocked"},
		{"private, meta.test", "meta.test", "blocked"}, // a pattern does not open metadata
		{"private, 0.0.0.0/0, carry.test", "carry.test", "blocked"},
		{"good.test", "good.test", ""},
		{"*.test", "good.test", ""},
		{"private", "good.test", ""},
		{"127.0.0.0/8", "good.test", ""},
		{"*.test", "none.test", "dns"},
	} {
		transport := newGuard(t, dispatch.GuardConfig{Allow: c.allow, PlainHTTP: true, DNS: server.dial}).Transport()
		sender := dispatch.NewSender(transport, "test")
		before := arrived()
		reply := sender.Try(t.Context(), newTarget(t, testSubscription("http://"+c.host+":"+port+"/")), testEvent(), 1)
		transport.CloseIdleConnections()
		if got := dispatch.Judge(reply); string(got.Reason) != c.want {
			t.Errorf("%s with %q: %+v (%v)", c.host, c.allow, got, reply.Err)
		}
		if came := arrived() - before; (came == 1) != (c.want == "") {
			t.Errorf("%s with %q: %d requests came", c.host, c.allow, came)
		}
	}
}

func TestAnswersThatAlternateDoNotGetPastTheGuard(t *testing.T) {
	t.Parallel()
	port, arrived := trap(t)
	server := startDNS(t, nil)
	turn := 0
	server.answer(func(string) ([]netip.Addr, dnsmessage.RCode, bool) {
		turn++
		// Public when asked first, ourselves when asked again.
		if turn%2 == 1 {
			return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, dnsmessage.RCodeSuccess, true
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, dnsmessage.RCodeSuccess, true
	})
	transport := newGuard(t, dispatch.GuardConfig{Allow: "192.0.2.0/24", PlainHTTP: true, DNS: server.dial}).Transport()
	sender := dispatch.NewSender(transport, "test")
	for range 6 {
		sub := testSubscription("http://rebind.test:" + port + "/")
		sub.Endpoint.Timeout = 200e6
		reply := sender.Try(t.Context(), newTarget(t, sub), testEvent(), 1)
		if verdict := dispatch.Judge(reply); verdict.Outcome == dispatch.Delivered {
			t.Fatalf("delivered: %+v", verdict)
		}
	}
	if arrived() != 0 {
		t.Error("a request came through")
	}
}

func TestTheTransportTakesNoProxyAndAnswersNoRedirect(t *testing.T) {
	t.Parallel()
	transport := newGuard(t, dispatch.GuardConfig{Allow: "private"}).Transport()
	t.Cleanup(transport.CloseIdleConnections)
	if transport.Proxy != nil {
		t.Error("a proxy function is set")
	}
	port, arrived := trap(t)
	for _, status := range []int{301, 302, 303, 307, 308} {
		receiver := hooktest.Start(t, hooktest.Config{Reply: func(hooktest.Delivery) hooktest.Reply {
			return hooktest.Reply{Status: status, Header: http.Header{"Location": {"http://127.0.0.1:" + port + "/"}}}
		}})
		reply := dispatch.NewSender(transport, "test").Try(t.Context(), newTarget(t, testSubscription(receiver.URL())), testEvent(), 1)
		if reply.Status != status || dispatch.Judge(reply).Reason != dispatch.ReasonRedirect {
			t.Errorf("%d: %+v", status, reply)
		}
	}
	if arrived() != 0 {
		t.Error("a redirect was followed")
	}
}

func TestPlainHTTPToAPublicNameIsBlockedAtTheConnect(t *testing.T) {
	t.Parallel()
	server := startDNS(t, map[string][]string{"public.test": {"198.51.101.1"}})
	guard := newGuard(t, dispatch.GuardConfig{Allow: "private", DNS: server.dial})
	const target = "http://public.test/"
	if err := guard.CheckURL(target); err != nil {
		t.Fatalf("it might resolve to a private address: %v", err)
	}
	reply := dispatch.NewSender(guard.Transport(), "test").Try(t.Context(), newTarget(t, testSubscription(target)), testEvent(), 1)
	if got := dispatch.Judge(reply); got.Outcome != dispatch.BlockedTarget {
		t.Errorf("%+v (%v)", got, reply.Err)
	}
}

func FuzzCheckURL(f *testing.F) {
	for _, seed := range []string{
		"https://example.com/", "https://127.0.0.1:80/", "https://[::1]/", "https://0x7f.1/", "http://a@b:1/#", "https://１.1.1.1/", "https://a%2eb/",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		guard := newGuard(t, dispatch.GuardConfig{})
		if guard.CheckURL(raw) != nil {
			return
		}
		// What passes is what it seems: a public literal or a name that no
		// resolver takes for an address.
		u, err := url.Parse(raw)
		if err != nil || u.Scheme != "https" || u.User != nil || u.Fragment != "" {
			t.Fatalf("%q passed", raw)
		}
		if addr, err := netip.ParseAddr(u.Hostname()); err == nil && (!addr.IsGlobalUnicast() || addr.IsPrivate()) {
			t.Fatalf("%q passed", raw)
		}
		if _, err := dispatch.NewTarget(testSubscription(raw)); err != nil {
			t.Fatalf("%q passed, but NewTarget says %v", raw, err)
		}
	})
}
