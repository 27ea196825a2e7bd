package dispatch_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rowcall/rowcall/dispatch"
)

// tryAt makes an attempt that has to succeed.
func tryAt(t *testing.T, sender *dispatch.Sender, target *dispatch.Target) dispatch.Reply {
	t.Helper()
	reply := sender.Try(t.Context(), target, testEvent(), 1)
	if got := dispatch.Judge(reply); got.Outcome != dispatch.Delivered {
		t.Fatalf("%+v (status %d, %v)", got, reply.Status, reply.Err)
	}
	return reply
}

func TestAConnectionIsUsedAgainWhateverTheFormOfTheAnswer(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"no body":          "HTTP/1.1 204 No Content\r\n\r\n",
		"a length":         ok + "Content-Length: 5\r\n\r\nhello",
		"chunks":           ok + "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
		"after a 103":      "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + ok + "Content-Length: 0\r\n\r\n",
		"after a 100":      "HTTP/1.1 100 Continue\r\n\r\n" + ok + "Content-Length: 2\r\n\r\nhi",
		"HTTP/1.0, kept":   "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi",
		"kept for minutes": ok + "Keep-Alive: max=7, Timeout=120\r\nContent-Length: 0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := listen(t, func(conn net.Conn) {
				r := bufio.NewReader(conn)
				for {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, req.Body)
					_, _ = io.WriteString(conn, text)
				}
			})
			sender, target := newSender(t), newTarget(t, testSubscription("http://"+address+"/"))
			for n := range 5 {
				if reply := tryAt(t, sender, target); reply.Fresh != (n == 0) {
					t.Errorf("attempt %d: a connection of its own: %v", n+1, reply.Fresh)
				}
			}
		})
	}
}

// An endpoint may close a connection when it likes. Where that is known before the
// next attempt, it costs that nothing.
func TestAConnectionThatHasEndedIsNotUsedAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer string
		open   bool // the connection stays so
	}{
		"closed, and said so":               {ok + "Connection: close\r\nContent-Length: 2\r\n\r\nhi", false},
		"closed, it says":                   {ok + "Connection: close\r\nContent-Length: 2\r\n\r\nhi", true},
		"closed without a word":             {ok + "Content-Length: 2\r\n\r\nhi", false},
		"ended by its body":                 {ok + "\r\nhi", false},
		"HTTP/1.0":                          {"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", true},
		"closed for want of requests":       {ok + "Content-Length: 2\r\n\r\nhiHTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n", false},
		"more than it had announced":        {ok + "Content-Length: 2\r\n\r\nhi there", true},
		"switched to what nobody asked for": {ok + "Content-Length: 0\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n\r\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ended := make(chan struct{})
			address := listen(t, func(conn net.Conn) {
				if readRequest(conn) {
					_, _ = io.WriteString(conn, c.answer)
					if !c.open {
						conn.Close()
					}
					ended <- struct{}{}
					_, _ = io.Copy(io.Discard, conn)
				}
			})
			sender, target := newSender(t), newTarget(t, testSubscription("http://"+address+"/"))
			for n := range 5 {
				if reply := tryAt(t, sender, target); !reply.Fresh {
					t.Errorf("attempt %d went over a connection that had ended", n+1)
				}
				<-ended
			}
		})
	}
}

// A connection that the endpoint keeps for two seconds is used again for one: a
// request that meets its end is lost, and has to be made again.
func TestAConnectionIsLeftBeforeTheEndpointEndsIt(t *testing.T) {
	t.Parallel()
	var conns atomic.Int32
	address := listen(t, func(conn net.Conn) {
		conns.Add(1)
		answer(ok + "Keep-Alive: timeout=2\r\nContent-Length: 0\r\n\r\n")(conn)
	})
	sender, target := newSender(t), newTarget(t, testSubscription("http://"+address+"/"))
	tryAt(t, sender, target)
	time.Sleep(1100 * time.Millisecond) // what is measured
	if reply := tryAt(t, sender, target); !reply.Fresh || conns.Load() != 2 {
		t.Errorf("%d connections, the second attempt had one of its own: %v", conns.Load(), reply.Fresh)
	}
}

// An endpoint that does not want a request may say so, and close, before it has
// read it.
func TestAnAnswerToARequestThatWasNotReadIsHeard(t *testing.T) {
	t.Parallel()
	for _, size := range []int{100, 20_000, 60_000, 100_000, 8 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			address := listen(t, func(conn net.Conn) {
				_, _ = bufio.NewReaderSize(conn, 64).ReadString('\n')
				_, _ = io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 5\r\n\r\nlarge")
				_ = conn.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, conn)
			})
			event := testEvent()
			event.Data = []byte(`"` + strings.Repeat("x", size) + `"`)
			reply := newSender(t).Try(t.Context(), newTarget(t, testSubscription("http://"+address+"/")), event, 1)
			if reply.Status != http.StatusRequestEntityTooLarge || string(reply.Body) != "large" {
				t.Errorf("status %d, body %q, error %v", reply.Status, reply.Body, reply.Err)
			}
		})
	}
}

// What is over before it begins sends nothing, not even over a connection that is there.
func TestAnAttemptThatIsOverSendsNothing(t *testing.T) {
	t.Parallel()
	var requests atomic.Int32
	address := listen(t, func(conn net.Conn) {
		for r := bufio.NewReader(conn); ; requests.Add(1) {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(conn, ok+"Content-Length: 0\r\n\r\n")
		}
	})
	sender, target := newSender(t), newTarget(t, testSubscription("http://"+address+"/"))
	tryAt(t, sender, target)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for range 50 {
		if reply := sender.Try(over, target, testEvent(), 1); !errors.Is(reply.Err, context.Canceled) {
			t.Fatalf("status %d, error %v", reply.Status, reply.Err)
		}
	}
	if reply := tryAt(t, sender, target); reply.Fresh || requests.Load() > 2 {
		t.Errorf("%d requests came, want 2, over one connection (a new one: %v)", requests.Load(), reply.Fresh)
	}
}

// Over connections that are shared, cut, left half read and given up, every attempt
// hears the answer to itself.
func TestEveryAttemptHearsItsOwnAnswer(t *testing.T) {
	t.Parallel()
	var open, most, cuts atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		own := r.Header.Get("Rowcall-Attempt")
		switch rand.IntN(8) {
		case 0: // cut
			cuts.Add(1)
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				conn.Close()
			}
			return
		case 1: // late for some
			time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
		case 2:
			w.Header().Set("Connection", "close")
		case 3: // more than is read
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = io.WriteString(w, own+strings.Repeat(" ", 200_000))
			return
		case 4: // in chunks
			w.WriteHeader(http.StatusUnprocessableEntity)
			_ = http.NewResponseController(w).Flush()
		case 5:
			w.WriteHeader(http.StatusOK)
			return
		default:
			w.WriteHeader(http.StatusUnprocessableEntity)
		}
		_, _ = io.WriteString(w, own)
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			most.Store(max(most.Load(), open.Add(1)))
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	transport := newGuard(t, dispatch.GuardConfig{Allow: "private"}).Transport()
	sender := dispatch.NewSender(transport, "test")
	sub := testSubscription(server.URL)
	target := newTarget(t, sub)
	const lanes, each = 16, 250
	var heard, late, failed atomic.Int32
	var all sync.WaitGroup
	for lane := range lanes {
		all.Go(func() {
			for n := range each {
				attempt := 1 + lane*each + n
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
				if rand.IntN(2) == 0 {
					cancel()
					ctx, cancel = t.Context(), func() {}
				}
				reply := sender.Try(ctx, target, testEvent(), attempt)
				cancel()
				switch {
				case reply.Err != nil && ctx.Err() != nil:
					late.Add(1)
				case reply.Err != nil:
					failed.Add(1)
				case reply.Status == http.StatusUnprocessableEntity:
					if got := strings.TrimSpace(string(reply.Body)); got != fmt.Sprint(attempt) && got != "" {
						t.Errorf("attempt %d heard the answer to %s", attempt, got)
					} else if got != "" {
						heard.Add(1)
					}
				}
			}
		})
	}
	all.Wait()
	if heard.Load() < lanes*each/4 || late.Load() == 0 {
		t.Errorf("%d answers were heard, %d attempts ended by themselves: this has shown nothing", heard.Load(), late.Load())
	}
	if failed.Load() > cuts.Load() {
		t.Errorf("%d attempts failed, %d were cut: others went over connections that could not be used", failed.Load(), cuts.Load())
	}
	if got := most.Load(); got > 3*lanes {
		t.Errorf("%d connections at once for %d attempts in flight", got, lanes)
	}
	transport.CloseIdleConnections()
	for end := time.Now().Add(10 * time.Second); open.Load() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d connections were left open", open.Load())
		}
	}
}
