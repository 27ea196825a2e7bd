package dispatch_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rowcall/rowcall/dispatch"
	"github.com/rowcall/rowcall/subscriptions"
)

const credential = "canary:?&=é7391"

func TestBasicAndBearerAreSentWithEveryAttempt(t *testing.T) {
	t.Parallel()
	for want, auth := range map[string]*subscriptions.Auth{
		"Basic " + base64.StdEncoding.EncodeToString([]byte("ann:"+credential)): {Type: "basic", Username: "ann", Password: subscriptions.NewSecret(credential)},
		"Bearer abc": {Type: "bearer", Token: subscriptions.NewSecret("abc")},
	} {
		receiver, address := startEndpoint(t)
		sub := testSubscription(address)
		sub.Endpoint.Auth = auth
		delivered(t, newSender(t), newTarget(t, sub), testEvent(), testEvent())
		for _, got := range receiver.all() {
			if values := got.header.Values("Authorization"); len(values) != 1 || values[0] != want {
				t.Errorf("Authorization %q, want %q", values, want)
			}
		}
	}
}

func TestNewTargetRefusesAuthThatCannotBeSentWithoutShowingIt(t *testing.T) {
	t.Parallel()
	secret := subscriptions.NewSecret(credential + "\n")
	good := subscriptions.NewSecret("s")
	for name, change := range map[string]func(*subscriptions.Endpoint){
		"unknown":            func(e *subscriptions.Endpoint) { e.Auth = &subscriptions.Auth{Type: "digest", Password: secret} },
		"basic, no password": func(e *subscriptions.Endpoint) { e.Auth = &subscriptions.Auth{Type: "basic", Username: "u"} },
		"basic, no name":     func(e *subscriptions.Endpoint) { e.Auth = &subscriptions.Auth{Type: "basic", Password: secret} },
		"basic, colon": func(e *subscriptions.Endpoint) {
			e.Auth = &subscriptions.Auth{Type: "basic", Username: "a:b", Password: secret}
		},
		"bearer, none":       func(e *subscriptions.Endpoint) { e.Auth = &subscriptions.Auth{Type: "bearer"} },
		"bearer, line break": func(e *subscriptions.Endpoint) { e.Auth = &subscriptions.Auth{Type: "bearer", Token: secret} },
		"oauth2, no URL": func(e *subscriptions.Endpoint) {
			e.Auth = &subscriptions.Auth{Type: "oauth2", ClientID: "c", ClientSecret: secret}
		},
		"oauth2, no secret": func(e *subscriptions.Endpoint) {
			e.Auth = &subscriptions.Auth{Type: "oauth2", ClientID: "c", TokenURL: "https://a.example"}
		},
		"bearer and a header": func(e *subscriptions.Endpoint) {
			e.Auth = &subscriptions.Auth{Type: "bearer", Token: good}
			e.Headers = map[string]string{"Authorization": "x"}
		},
		"oauth2 and a header": func(e *subscriptions.Endpoint) {
			e.Auth = &subscriptions.Auth{Type: "oauth2", ClientID: "c", ClientSecret: good, TokenURL: "https://a.example"}
			e.Headers = map[string]string{"authorization": "x"}
		},
		"tls of nothing":    func(e *subscriptions.Endpoint) { e.TLS = &subscriptions.TLS{} },
		"tls, no pair":      func(e *subscriptions.Endpoint) { e.TLS = &subscriptions.TLS{ClientCertificate: "x", ClientKey: secret} },
		"tls, no authority": func(e *subscriptions.Endpoint) { e.TLS = &subscriptions.TLS{CA: "x"} },
	} {
		sub := testSubscription("https://example.com/")
		change(&sub.Endpoint)
		if _, err := dispatch.NewTarget(sub); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// tokenServer is a token endpoint.
type tokenServer struct {
	t     *testing.T
	asked atomic.Int64
	reply func(w http.ResponseWriter, n int64, r *http.Request)
}

func (s *tokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := s.asked.Add(1)
	if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" || r.Header.Get("User-Agent") != "rowcall/test" {
		s.t.Errorf("the token endpoint got %s, %v", r.Method, r.Header)
	}
	if err := r.ParseForm(); err != nil || r.PostForm.Get("grant_type") != "client_credentials" {
		s.t.Errorf("the token endpoint got form %v, %v", r.PostForm, err)
	}
	w.Header().Set("Content-Type", "application/json")
	s.reply(w, n, r)
}

// grant answers with the token "t" and the number of the request.
func grant(w http.ResponseWriter, n int64, life any) {
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": fmt.Sprint("t", n), "token_type": "bearer", "expires_in": life})
}

func startTokens(t *testing.T, reply func(w http.ResponseWriter, n int64, r *http.Request)) (*tokenServer, string) {
	t.Helper()
	tokens := &tokenServer{t: t, reply: reply}
	server := httptest.NewServer(tokens)
	t.Cleanup(server.Close)
	return tokens, server.URL
}

func oauth(tokenURL string) *subscriptions.Auth {
	return &subscriptions.Auth{
		Type: "oauth2", TokenURL: tokenURL, ClientID: "id:ä", ClientSecret: subscriptions.NewSecret(credential), Scopes: []string{"a", "b:c"},
	}
}

func TestATokenIsFetchedOnceForAllLanesOfAnEndpoint(t *testing.T) {
	t.Parallel()
	tokens, tokenURL := startTokens(t, func(w http.ResponseWriter, n int64, r *http.Request) {
		id, secret, _ := r.BasicAuth()
		id, _ = url.QueryUnescape(id)
		secret, _ = url.QueryUnescape(secret)
		if id != "id:ä" || secret != credential || r.PostForm.Get("scope") != "a b:c" || r.PostForm.Has("client_secret") {
			t.Errorf("the token endpoint got %q %q, form %v", id, secret, r.PostForm)
		}
		grant(w, n, 3600)
	})
	receiver, address := startEndpoint(t)
	sub := testSubscription(address)
	sub.Endpoint.Auth = oauth(tokenURL)
	sender := newSender(t)
	var wg sync.WaitGroup
	for range 8 { // each lane prepares its own
		target := newTarget(t, sub)
		for range 8 {
			wg.Go(func() {
				if reply := sender.Try(t.Context(), target, testEvent(), 1); reply.Err != nil || reply.Status != 200 {
					t.Errorf("status %d, error %v", reply.Status, reply.Err)
				}
			})
		}
	}
	wg.Wait()
	if n := tokens.asked.Load(); n != 1 {
		t.Errorf("%d tokens were fetched", n)
	}
	if len(receiver.all()) != 64 {
		t.Fatalf("%d deliveries", len(receiver.all()))
	}
	for _, got := range receiver.all() {
		if values := got.header.Values("Authorization"); len(values) != 1 || values[0] != "Bearer t1" {
			t.Fatalf("Authorization %q", values)
		}
	}
	// Another scope is another token.
	sub.Endpoint.Auth = oauth(tokenURL)
	sub.Endpoint.Auth.Scopes = nil
	tokens.reply = func(w http.ResponseWriter, n int64, _ *http.Request) { grant(w, n, "3600") }
	delivered(t, sender, newTarget(t, sub), testEvent())
	if got := receiver.all()[64].header.Get("Authorization"); got != "Bearer t2" {
		t.Errorf("Authorization %q", got)
	}
}

func TestAServerThatTakesTheSecretInTheBodyOnlyIsAskedSo(t *testing.T) {
	t.Parallel()
	var styles []string
	_, tokenURL := startTokens(t, func(w http.ResponseWriter, n int64, r *http.Request) {
		if _, _, ok := r.BasicAuth(); ok {
			styles = append(styles, "header")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		styles = append(styles, "body")
		if r.PostForm.Get("client_id") != "id:ä" || r.PostForm.Get("client_secret") != credential {
			t.Errorf("form %v", r.PostForm)
		}
		grant(w, n, 0.000001) // over at once
	})
	receiver, address := startEndpoint(t)
	sub := testSubscription(address)
	sub.Endpoint.Auth = oauth(tokenURL)
	delivered(t, newSender(t), newTarget(t, sub), testEvent(), testEvent())
	if got := strings.Join(styles, " "); got != "header body body" || receiver.all()[1].header.Get("Authorization") != "Bearer t3" {
		t.Errorf("asked by %s", got)
	}
}

// bubble answers for an endpoint and its token endpoint inside a bubble, where
// there are no sockets.
func bubble(endpoint, tokens func(*http.Request) (int, string)) *dispatch.Sender {
	return dispatch.NewSender(roundTripper(func(req *http.Request) (*http.Response, error) {
		answer := endpoint
		if req.URL.Host == "tokens.example" {
			answer = tokens
		}
		rec := httptest.NewRecorder()
		status, body := answer(req)
		if err := req.Context().Err(); err != nil {
			return nil, err
		}
		rec.WriteHeader(status)
		_, _ = rec.WriteString(body)
		return rec.Result(), nil
	}), "test")
}

func TestATokenIsRenewedShortlyBeforeItEndsOrWhenItIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fetched, status, last := 0, 200, ""
		sender := bubble(func(r *http.Request) (int, string) {
			last = r.Header.Get("Authorization")
			return status, ""
		}, func(*http.Request) (int, string) {
			fetched++
			return 200, fmt.Sprintf(`{"access_token":"t%d","token_type":"Bearer","expires_in":3600}`, fetched)
		})
		sub := testSubscription("https://example.com/")
		sub.Endpoint.Auth = oauth("https://tokens.example/token")
		target := newTarget(t, sub)
		step := func(wait time.Duration, want int) {
			t.Helper()
			time.Sleep(wait)
			sender.Try(t.Context(), target, testEvent(), 1)
			if fetched != want || last != fmt.Sprint("Bearer t", want) {
				t.Fatalf("%d tokens were fetched, %q was sent; want %d", fetched, last, want)
			}
		}
		step(0, 1)
		step(59*time.Minute-1, 1)
		step(1, 2)
		status = http.StatusUnauthorized
		step(9*time.Second, 2)
		step(time.Second, 2) // refused, and old enough to be given up
		step(0, 3)
		step(0, 3) // the new one is refused too: it stays for a while
		step(5*time.Second, 3)
	})
}

func TestAFailureToGetATokenIsEverybodysForASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fetched, sent := 0, 0
		sender := bubble(func(*http.Request) (int, string) {
			sent++
			return 200, ""
		}, func(r *http.Request) (int, string) {
			if r.Header.Get("Authorization") != "" { // not the second try, by body
				fetched++
				time.Sleep(100 * time.Millisecond)
			}
			return http.StatusBadRequest, `{"error":"invalid_client"}`
		})
		sub := testSubscription("https://example.com/")
		sub.Endpoint.Auth = oauth("https://tokens.example/token")
		target := newTarget(t, sub)
		wave := func() {
			var wg sync.WaitGroup
			for range 50 {
				wg.Go(func() {
					reply := sender.Try(t.Context(), target, testEvent(), 1)
					if v := dispatch.Judge(reply); v.Reason != dispatch.ReasonUnauthorized || v.Fault != dispatch.FaultEndpoint {
						t.Errorf("verdict %+v, error %v", v, reply.Err)
					}
					if want := "fetch token: the token endpoint answered 400 (invalid_client)"; reply.Err.Error() != want {
						t.Errorf("error %v", reply.Err)
					}
				})
			}
			wg.Wait()
		}
		wave()
		wave()
		time.Sleep(time.Second)
		wave()
		if fetched != 2 || sent != 0 {
			t.Errorf("%d tokens were asked for, %d events sent", fetched, sent)
		}
	})
}

func TestWhoeverWaitsForATokenAsksWhenTheFirstGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fetched := 0
		sender := bubble(func(*http.Request) (int, string) { return 200, "" }, func(r *http.Request) (int, string) {
			fetched++
			if fetched == 1 {
				<-r.Context().Done()
			}
			return 200, `{"access_token":"t","token_type":"Bearer"}`
		})
		sub := testSubscription("https://example.com/")
		sub.Endpoint.Auth = oauth("https://tokens.example/token")
		patient := newTarget(t, sub)
		sub.Endpoint.Timeout = subscriptions.Duration(time.Second)
		hasty := newTarget(t, sub)
		var wg sync.WaitGroup
		wg.Go(func() {
			reply := sender.Try(t.Context(), hasty, testEvent(), 1)
			if v := dispatch.Judge(reply); v.Reason != dispatch.ReasonTimeout || v.Fault != dispatch.FaultEndpoint || reply.Duration != time.Second {
				t.Errorf("the first: %+v after %v", v, reply.Duration)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if reply := sender.Try(t.Context(), patient, testEvent(), 1); reply.Err != nil || reply.Status != 200 {
				t.Errorf("the next: %d, %v", reply.Status, reply.Err)
			}
		})
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if v := dispatch.Judge(sender.Try(ctx, patient, testEvent(), 1)); v.Outcome != dispatch.Unknown {
				t.Errorf("one that is called off: %+v", v)
			}
		})
		wg.Wait()
		if fetched != 2 {
			t.Errorf("%d tokens were asked for", fetched)
		}
	})
}

func TestWhatATokenEndpointDoesToTheVerdict(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		body   string
		want   dispatch.Reason
	}{
		"401":                     {401, `{"error":"` + credential + `"}`, dispatch.ReasonUnauthorized},
		"500":                     {500, credential, dispatch.ReasonUnauthorized},
		"429":                     {429, "", dispatch.ReasonUnauthorized},
		"a redirect":              {302, "", dispatch.ReasonUnauthorized},
		"no JSON":                 {200, credential, dispatch.ReasonUnauthorized},
		"no token":                {200, `{"token_type":"Bearer"}`, dispatch.ReasonUnauthorized},
		"a token of another kind": {200, `{"access_token":"` + credential + `","token_type":"mac"}`, dispatch.ReasonUnauthorized},
		"a token of lines":        {200, `{"access_token":"canary\r\nX: y","token_type":"Bearer"}`, dispatch.ReasonUnauthorized},
		"a token too large":       {200, `{"access_token":"` + strings.Repeat("x", 17<<10) + `","token_type":"Bearer"}`, dispatch.ReasonUnauthorized},
		"an answer too large":     {200, strings.Repeat(" ", 65<<10), dispatch.ReasonTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, tokenURL := startTokens(t, func(w http.ResponseWriter, _ int64, _ *http.Request) {
				w.Header().Set("Retry-After", "7")
				w.Header().Set("Location", "http://127.0.0.1:1/")
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.body))
			})
			receiver, address := startEndpoint(t)
			sub := testSubscription(address)
			sub.Endpoint.Auth = oauth(tokenURL)
			reply := newSender(t).Try(t.Context(), newTarget(t, sub), testEvent(), 1)
			v := dispatch.Judge(reply)
			if v.Outcome != dispatch.Failed || v.Reason != c.want || v.Fault != dispatch.FaultEndpoint || len(receiver.all()) > 0 {
				t.Errorf("verdict %+v, %d events were sent", v, len(receiver.all()))
			}
			if text := reply.Err.Error(); !strings.HasPrefix(text, "fetch token: ") || strings.Contains(text, "canary") {
				t.Errorf("error %q", text)
			}
			if want := map[bool]time.Duration{true: 7 * time.Second}[c.status == 429]; reply.RetryAfter != want {
				t.Errorf("Retry-After %v, want %v", reply.RetryAfter, want)
			}
		})
	}
	for name, c := range map[string]struct {
		url  string
		want dispatch.Verdict
	}{
		"refused": {"http://127.0.0.1:9/", dispatch.Verdict{Outcome: dispatch.Failed, Reason: dispatch.ReasonRefused, Fault: dispatch.FaultEndpoint}},
		"blocked": {"http://169.254.169.254/latest/meta-data", dispatch.Verdict{Outcome: dispatch.BlockedTarget, Reason: dispatch.ReasonBlocked, Fault: dispatch.FaultEndpoint}},
	} {
		sub := testSubscription("https://example.com/")
		sub.Endpoint.Auth = oauth(c.url)
		reply := newSender(t).Try(t.Context(), newTarget(t, sub), testEvent(), 1)
		if got := dispatch.Judge(reply); got != c.want {
			t.Errorf("%s: %+v, error %v", name, got, reply.Err)
		}
	}
}
