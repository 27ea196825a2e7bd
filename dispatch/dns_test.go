package dispatch_test

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// dnsServer answers DNS queries over UDP on the loopback.
type dnsServer struct {
	conn net.PacketConn

	mu      sync.Mutex
	answers func(name string) ([]netip.Addr, dnsmessage.RCode, bool) // false: no answer at all
	queries int
}

// startDNS serves the table, names without a final dot; what it lacks does not exist.
func startDNS(t testing.TB, table map[string][]string) *dnsServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dnsServer{conn: conn}
	s.answer(func(name string) ([]netip.Addr, dnsmessage.RCode, bool) {
		texts, found := table[name]
		if !found {
			return nil, dnsmessage.RCodeNameError, true
		}
		var addrs []netip.Addr
		for _, text := range texts {
			addrs = append(addrs, netip.MustParseAddr(text))
		}
		return addrs, dnsmessage.RCodeSuccess, true
	})
	var serving sync.WaitGroup
	serving.Go(s.serve)
	t.Cleanup(func() { conn.Close(); serving.Wait() })
	return s
}

// answer replaces the answers from now on.
func (s *dnsServer) answer(answers func(name string) ([]netip.Addr, dnsmessage.RCode, bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers = answers
}

// dial is GuardConfig.DNS.
func (s *dnsServer) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "udp", s.conn.LocalAddr().String())
}

func (s *dnsServer) serve() {
	buffer := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		if reply, ok := s.reply(buffer[:n]); ok {
			_, _ = s.conn.WriteTo(reply, from)
		}
	}
}

func (s *dnsServer) reply(query []byte) ([]byte, bool) {
	var parser dnsmessage.Parser
	header, err := parser.Start(query)
	if err != nil {
		return nil, false
	}
	question, err := parser.Question()
	if err != nil {
		return nil, false
	}
	s.mu.Lock()
	s.queries++
	addrs, code, ok := s.answers(strings.TrimSuffix(question.Name.String(), "."))
	s.mu.Unlock()
	if !ok {
		return nil, false
	}
	message := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: header.ID, Response: true, Authoritative: true, RecursionAvailable: true, RCode: code},
		Questions: []dnsmessage.Question{question},
	}
	for _, addr := range addrs {
		head := dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, Type: question.Type}
		if addr.Is4() && question.Type == dnsmessage.TypeA {
			message.Answers = append(message.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: addr.As4()}})
		} else if addr.Is6() && question.Type == dnsmessage.TypeAAAA {
			message.Answers = append(message.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}})
		}
	}
	reply, err := message.Pack()
	return reply, err == nil
}
