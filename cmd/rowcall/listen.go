package main

import (
	"context"
	"errors"
	"fmt"
	"log" //nolint:depguard // http.Server wants one
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// apiConnections bounds how many connections to the API are open at once.
const apiConnections = 1024

// apiGrace is how long requests to the API may go on once rowcall is told to stop.
const apiGrace = 5 * time.Second

// listening serves the API on a listener until its context ends.
func listening(server *http.Server, listener net.Listener, c config) func(context.Context) error {
	return func(ctx context.Context) error {
		server.TLSConfig = c.tls
		server.ErrorLog = log.New(debugWriter{c.logger}, "", 0)
		done := make(chan error, 1)
		go func() {
			if c.tls != nil {
				done <- server.ServeTLS(listener, "", "")
			} else {
				done <- server.Serve(listener)
			}
		}()
		select {
		case err := <-done:
			return fmt.Errorf("serve: %w", err)
		case <-ctx.Done():
		}
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), apiGrace)
		defer cancel()
		if err := server.Shutdown(grace); err != nil {
			server.Close() // whoever is still there had their grace
		}
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve: %w", err)
		}
		return nil
	}
}

// apiOrConsole sends what belongs to the API there, and everything else to the
// console.
func apiOrConsole(api, console http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/"); first {
		case "v1", "healthz", "readyz", "metrics":
			api.ServeHTTP(w, r)
		default:
			console.ServeHTTP(w, r)
		}
	})
}

// debugWriter logs what net/http says of connections that make no sense.
type debugWriter struct{ logger zerolog.Logger }

func (w debugWriter) Write(line []byte) (int, error) {
	w.logger.Debug().Str("component", "api").Str("said", strings.TrimSpace(string(line))).Msg("connection failed")
	return len(line), nil
}

// denied are the addresses that no delivery may ever reach: our own listener
// and both databases.
func denied(ctx context.Context, logger zerolog.Logger, listener net.Addr, databases ...string) []netip.AddrPort {
	var deny []netip.AddrPort
	if own, err := netip.ParseAddrPort(listener.String()); err == nil {
		deny = append(deny, own)
	}
	seen := make(map[string]bool)
	for _, database := range databases {
		c, err := pgconn.ParseConfig(database)
		if err != nil {
			continue // refused before
		}
		hosts := []*pgconn.FallbackConfig{{Host: c.Host, Port: c.Port}}
		for _, f := range append(hosts, c.Fallbacks...) {
			key := fmt.Sprint(f.Host, " ", f.Port)
			if seen[key] {
				continue
			}
			seen[key] = true
			addresses, err := resolve(ctx, f.Host)
			if err != nil {
				logger.Warn().Str("host", f.Host).Msg("database address not known: deliveries to it are denied by port only")
			}
			for _, a := range addresses {
				deny = append(deny, netip.AddrPortFrom(a.Unmap(), f.Port))
			}
		}
	}
	return deny
}

// resolve looks a database's host up. A Unix socket stands for every local
// address: its server mostly listens there too.
func resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") {
		return []netip.Addr{netip.IPv6Unspecified()}, nil
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// buildMetric is rowcall_build_info: always 1, its labels say what runs.
func buildMetric() prometheus.Collector {
	b := buildInfo()
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "rowcall_build_info", Help: "What this binary was made from; always 1.",
		ConstLabels: prometheus.Labels{"version": b.Version, "commit": b.Commit, "go": b.Go},
	})
	g.Set(1)
	return g
}
