package api

import (
	"math"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxBuckets bounds the callers whose rate is known at once. Beyond, who came
// longest ago is forgotten, and begins anew with a full bucket.
const maxBuckets = 10_000

// buckets are token buckets by name. It is safe for concurrent use.
type buckets struct {
	rate  rate.Limit // tokens a second
	burst int

	mu sync.Mutex
	of map[string]*bucket
}

type bucket struct {
	limiter *rate.Limiter
	used    time.Time
}

func newBuckets(perSecond float64, burst int) *buckets {
	return &buckets{rate: rate.Limit(perSecond), burst: burst, of: map[string]*bucket{}}
}

// take takes a token. It returns how long the name is to wait for one, 0 where it
// got one, and how many are left.
func (b *buckets) take(name string, now time.Time) (wait time.Duration, left int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.of[name]
	if l == nil {
		if len(b.of) >= maxBuckets {
			b.forget()
		}
		l = &bucket{limiter: rate.NewLimiter(b.rate, b.burst)}
		b.of[name] = l
	}
	l.used = now
	r := l.limiter.ReserveN(now, 1)
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
	}
	return wait, max(0, int(l.limiter.TokensAt(now)))
}

// headers say how much a name may ask for, and how much of it is left (the draft
// of RateLimit header fields).
func (b *buckets) headers(set func(name, value string), left int) {
	full := time.Duration(float64(b.burst-left) / float64(b.rate) * float64(time.Second))
	set("RateLimit-Policy", `"key";q=`+strconv.Itoa(b.burst)+";w="+seconds(time.Duration(float64(b.burst)/float64(b.rate)*float64(time.Second))))
	set("RateLimit", `"key";r=`+strconv.Itoa(left)+";t="+seconds(full))
}

func (b *buckets) forget() {
	oldest := ""
	for name, l := range b.of {
		if oldest == "" || l.used.Before(b.of[oldest].used) {
			oldest = name
		}
	}
	delete(b.of, oldest)
}

// seconds is a Retry-After.
func seconds(wait time.Duration) string { return strconv.Itoa(int(math.Ceil(wait.Seconds()))) }
