package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

type healthCmd struct {
	listenFlags
	Timeout string `default:"3s" placeholder:"DURATION" help:"How long it may take to answer; by default ${default}."`
	Ready   bool   `help:"Ask readyz in place of healthz: is it fit to be sent traffic?"`
}

// Help is shown below the summary.
func (healthCmd) Help() string {
	return `It reads the settings that serve reads (ROWCALL_LISTEN, ROWCALL_TLS_CERT_FILE), so that a container needs no more
than this line:

  HEALTHCHECK CMD ["/rowcall", "health"]

Examples:
  rowcall health
  rowcall health --ready   # and does its work?`
}

// Run probes the instance on this machine.
func (c *healthCmd) Run(ctx context.Context, p *program) error {
	c.checkListen(p.settings)
	timeout := p.settings.duration("timeout", c.Timeout, time.Millisecond)
	if err := p.settings.err(); err != nil {
		return err
	}
	path := "/healthz"
	if c.Ready {
		path = "/readyz"
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return probe(ctx, c.Listen, c.TLSCertFile != "", path, p.stdout)
}

// probe asks the instance that listens on an address. An address that stands
// for all of them is asked on the loopback one.
func probe(ctx context.Context, listen string, https bool, path string, out io.Writer) error {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("read address: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	scheme := "http://"
	if https {
		scheme = "https://"
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		// The certificate is for the name people use, not for this address; what
		// is asked for is no secret, and nothing secret is sent.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see above
	}
	client := &http.Client{Transport: transport}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+net.JoinHostPort(host, port)+path, nil)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("probe instance: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	text := strings.TrimSpace(string(body))
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("probe instance: %s answers %s: %s", path, response.Status, text)
	}
	_, err = fmt.Fprintln(out, text)
	return err
}
