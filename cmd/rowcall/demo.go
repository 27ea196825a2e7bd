package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/api/client"
	"github.com/rowcall/rowcall/store/pgtemp"
	"github.com/rowcall/rowcall/subscriptions"
)

type demoCmd struct {
	Deliveries int    `placeholder:"N" help:"End after N verified deliveries: exit code 0, or 1 if they do not come in time."`
	Timeout    string `default:"1m" placeholder:"DURATION" help:"How long those deliveries may take; by default ${default}."`
	Rate       string `default:"2" placeholder:"N" help:"Transactions a second that the shop makes; by default ${default}."`
	Listen     string `flagonly:"" default:"127.0.0.1:0" placeholder:"HOST:PORT" help:"Address of rowcall's API; by default a free port of this machine."`
	LogLevel   string `flagonly:"" default:"error" placeholder:"LEVEL" help:"What rowcall itself logs: debug, info, warn or error; by default ${default}."`
}

// Help is shown below the summary.
func (demoCmd) Help() string {
	return `It starts a private Postgres in a temporary folder, a small shop that writes rows into it, rowcall, and a receiver that
verifies each signature and prints what it gets. Nothing needs to be set up but a PostgreSQL server's programs, and nothing
is left behind. On a terminal, Enter stops the receiver and starts it again: watch nothing get lost.

Examples:
  rowcall demo
  rowcall demo --deliveries 10`
}

// errEnough ends a demo that was to end after so many deliveries.
var errEnough = errors.New("enough deliveries")

// Run shows the main job until it is interrupted.
func (c *demoCmd) Run(ctx context.Context, p *program) error {
	timeout := p.settings.duration("timeout", c.Timeout, time.Second)
	logs := logFlags{LogLevel: c.LogLevel, LogFormat: "console"}
	logger := logs.parse(p.settings, p.stderr)
	rate, err := parseRate(c.Rate)
	if err != nil {
		p.settings.add(fault{"--rate", fmt.Sprintf("is %q", c.Rate), "write a number from 0.1 to 1000"})
	}
	if err := p.settings.err(); err != nil {
		return err
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	if c.Deliveries > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, fmt.Errorf("%d deliveries did not come within %v", c.Deliveries, timeout))
		defer cancel()
	}
	d := &demo{out: newScreen(p.stdout), want: c.Deliveries, interval: time.Duration(float64(time.Second) / rate)}
	d.config = config{
		databaseWait: 30 * time.Second, sourceName: "shop", sourceTables: []string{"public.*"}, instance: "demo",
		listen: c.Listen, egressAllow: "private", attempts: "all", logger: logger,
	}
	var keys io.Reader
	if isTerminal(p.stdin) {
		keys = p.stdin
	}
	err = d.run(ctx, keys)
	if errors.Is(err, errEnough) {
		return nil
	}
	if err == nil && c.Deliveries > 0 {
		if err = context.Cause(ctx); errors.Is(err, context.Canceled) {
			err = errors.New("interrupted before the deliveries had come")
		}
	}
	return err
}

// demo is everything that one run of the demo starts. run ends all of it.
type demo struct {
	out      *screen
	want     int // verified deliveries to end after; 0: none
	interval time.Duration
	config   config
}

// run starts Postgres, shop, rowcall and receiver, and ends them in reverse when
// ctx ends. It returns nil when it was interrupted.
func (d *demo) run(ctx context.Context, keys io.Reader) (err error) {
	d.out.step("starting a private Postgres")
	cluster, err := pgtemp.Start(ctx, pgtemp.Config{NoSync: true, Settings: map[string]string{"fsync": "off"}})
	if err != nil {
		return interrupted(ctx, fmt.Errorf("start Postgres: %w", err))
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	if err := createDatabase(ctx, cluster.URL("postgres"), "shop"); err != nil {
		return interrupted(ctx, err)
	}
	d.config.databaseURL, d.config.sourceURL = cluster.URL("shop"), cluster.URL("shop")
	shop, err := openShop(ctx, d.config.databaseURL)
	if err != nil {
		return interrupted(ctx, err)
	}
	defer shop.close()

	r := &demoReceiver{out: d.out, want: d.want, enough: make(chan struct{})}
	if err := r.start(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.stop()) }()

	d.out.step("starting rowcall")
	key := api.NewKey()
	d.config.apiKey = subscriptions.NewSecret(key)
	if d.config.cipher, err = subscriptions.NewCipher(subscriptions.NewMasterKey()); err != nil {
		return fmt.Errorf("make cipher: %w", err)
	}
	// rowcall outlives the rest: it drains while the receiver still answers.
	group, running := errgroup.WithContext(ctx)
	listening := make(chan string, 1)
	group.Go(func() error { return serve(running, d.config, func(addr string) { listening <- addr }) })
	group.Go(func() error {
		select {
		case <-running.Done():
			return nil
		case <-r.enough:
			return errEnough
		}
	})
	group.Go(func() error {
		select {
		case <-running.Done():
			return nil
		case addr := <-listening:
			return interrupted(running, d.show(running, "http://"+addr, key, shop, r, keys))
		}
	})
	err = group.Wait()
	d.out.end(r.verified())
	return err
}

// show subscribes the receiver, and then lets the shop trade until ctx ends.
func (d *demo) show(ctx context.Context, address, key string, shop *shop, r *demoReceiver, keys io.Reader) error {
	c, err := client.New(client.Config{BaseURL: address, Key: key})
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	secret, err := subscribe(ctx, c, r.url())
	if err != nil {
		return err
	}
	r.expect(secret)
	if err := awaitStreaming(ctx, c); err != nil {
		return err
	}
	d.out.introduce(address, key, d.config.databaseURL, r.url(), keys != nil, d.want)
	group, trading := errgroup.WithContext(ctx)
	group.Go(func() error { return shop.trade(trading, d.interval) })
	group.Go(func() error { return r.watch(trading, c) })
	if keys != nil {
		go r.toggle(trading, bufio.NewScanner(keys)) // a read of the terminal cannot be called back
	}
	return group.Wait()
}

func createDatabase(ctx context.Context, url, name string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()); err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	return nil
}
