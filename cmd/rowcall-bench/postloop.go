package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// loopResult is what the bare loop prints.
type loopResult struct {
	Rate float64 `json:"rate"`   // requests per second
	CPU  float64 `json:"cpu_us"` // of this process, per request
}

// postLoop is the ceiling: it signs and POSTs a payload like rowcall's as fast as
// a tuned net/http client can, and does nothing else.
func postLoop(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("postloop", flag.ContinueOnError)
	url := flags.String("url", "", "endpoint")
	count := flags.Int("count", 50_000, "requests")
	conns := flags.Int("conns", 64, "in flight")
	size := flags.Int("size", 850, "bytes of a body")
	if err := flags.Parse(args); err != nil {
		return err
	}
	transport := &http.Transport{
		MaxIdleConnsPerHost: *conns, MaxConnsPerHost: *conns, DisableCompression: true, ForceAttemptHTTP2: true,
	}
	secret := bytes.Repeat([]byte{7}, 32)
	var sent atomic.Int64
	var failed atomic.Int64
	var wg sync.WaitGroup
	before, start := cpu(), time.Now()
	for range *conns {
		wg.Go(func() {
			for ctx.Err() == nil {
				n := sent.Add(1)
				if n > int64(*count) {
					return
				}
				if err := postOnce(ctx, transport, *url, secret, n, *size); err != nil && failed.Add(1) == 1 {
					fmt.Fprintln(os.Stderr, "postloop:", err)
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(start).Seconds()
	if n := failed.Load(); n > 0 {
		return fmt.Errorf("%d requests failed", n)
	}
	return json.NewEncoder(os.Stdout).Encode(loopResult{
		Rate: float64(*count) / took,
		CPU:  (cpu() - before) * 1e6 / float64(*count),
	})
}

func postOnce(ctx context.Context, transport *http.Transport, url string, secret []byte, n int64, size int) error {
	body := make([]byte, 0, size+64)
	body = append(body, `{"specversion":"1.0","id":"01-`...)
	body = strconv.AppendInt(body, n, 10)
	body = append(body, `","partitionkey":"k`...)
	body = strconv.AppendInt(body, n, 10)
	body = append(body, `","sequence":"`...)
	body = strconv.AppendInt(body, n, 10)
	body = append(body, `","data":"`...)
	for len(body) < size-2 {
		body = append(body, 'x')
	}
	body = append(body, `"}`...)
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.GetBody = nil
	id, timestamp := strconv.FormatInt(n, 10), strconv.FormatInt(time.Now().Unix(), 10)
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s.%s.", id, timestamp)
	mac.Write(body)
	request.Header["Webhook-Id"] = []string{id}
	request.Header["Webhook-Timestamp"] = []string{timestamp}
	request.Header["Webhook-Signature"] = []string{"v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))}
	request.Header["Content-Type"] = []string{"application/cloudevents+json"}
	// The rest of what rowcall sends, so that both send the same.
	request.Header["User-Agent"] = []string{"rowcall/bench"}
	request.Header["Rowcall-Attempt"] = []string{"1"}
	request.Header["Rowcall-Subscription"] = []string{"sub_00000000000000000000000000"}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("status %d", response.StatusCode)
	}
	return err
}

// cpu is the CPU time that this process has used, in seconds.
func cpu() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return seconds(u.Utime) + seconds(u.Stime)
}

func seconds(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
