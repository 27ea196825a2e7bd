package dispatch_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rowcall/rowcall/dispatch"
)

// BenchmarkTry compares an attempt with the barest signed POST that net/http's
// client can make to the same receiver. cpu-µs/op is the whole
// process's, the receiver included.
func BenchmarkTry(b *testing.B) {
	event := testEvent()
	event.Data = []byte(`{"op":"insert","row":{"id":42,"text":"` + strings.Repeat("x", 400) + `"}}`)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	b.Cleanup(server.Close)
	transport := newGuard(b, dispatch.GuardConfig{Allow: "private"}).Transport()
	b.Cleanup(transport.CloseIdleConnections)

	b.Run("bare", func(b *testing.B) {
		body := dispatch.AppendCloudEvent(nil, event)
		key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(testSecret, "whsec_"))
		measure(b, func() error { return postBare(transport.Transport, server.URL, key, body) })
	})
	b.Run("try", func(b *testing.B) {
		sender := dispatch.NewSender(transport, "test")
		target := newTarget(b, testSubscription(server.URL))
		measure(b, func() error {
			reply := sender.Try(b.Context(), target, event, 1)
			return reply.Err
		})
	})
}

func postBare(rt http.RoundTripper, url string, key, body []byte) error {
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	id, timestamp := "01-0000000003F2A8C0-0", strconv.FormatInt(time.Now().Unix(), 10)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	req.Header.Set("Content-Type", "application/cloudevents+json")
	req.Header.Set("Webhook-Id", id)
	req.Header.Set("Webhook-Timestamp", timestamp)
	req.Header.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return err
}

func measure(b *testing.B, do func() error) {
	b.ReportAllocs()
	b.SetParallelism(32)
	before := cpuTime(b)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := do(); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(cpuTime(b)-before)/float64(time.Microsecond)/float64(b.N), "cpu-µs/op")
}

func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
