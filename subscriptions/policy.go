package subscriptions

import (
	"cmp"
	"errors"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// Hold limits: what becomes of events that were held too long.
const (
	HoldDeadLetter = "dead-letter" // they become a dead letter, with their payloads kept
	HoldDrop       = "drop"        // they are dropped, counted
)

// Signature schemes of Standard Webhooks 1.0.
const (
	SignHMAC    = "v1"  // HMAC-SHA256
	SignEd25519 = "v1a" // ed25519
)

// Normalize writes the default into every member that is zero, so that what
// comes after reads policies without asking whether they were given. It changes
// nothing that is not zero and nothing that is shared with other Specs.
func (s *Spec) Normalize() {
	if s.Labels == nil {
		s.Labels = map[string]string{}
	}
	if s.Events == nil {
		s.Events = []string{}
	}
	if s.Endpoint.Headers == nil {
		s.Endpoint.Headers = map[string]string{}
	}
	if s.Signing == nil {
		s.Signing = []string{SignHMAC}
	}
	orDefault(&s.Endpoint.Timeout, Duration(15*time.Second))
	orDefault(&s.Format, CloudEvents)
	orDefault(&s.Ordering, OrderKey)
	orDefault(&s.OnDead, Skip)
	orDefault(&s.MaxInFlight, 64)
	orDefault(&s.Batch.MaxEvents, 1)
	orDefault(&s.Batch.MaxBytes, 1<<20)
	orDefault(&s.Retry.Initial, Duration(time.Second))
	orDefault(&s.Retry.Max, Duration(time.Hour))
	orDefault(&s.Retry.MaxAttempts, 20)
	orDefault(&s.Retry.MaxAge, Duration(72*time.Hour))
	orDefault(&s.Outage.Probe, "5s..15m")
	orDefault(&s.Outage.HoldLimit.Age, Duration(30*day))
	orDefault(&s.Outage.HoldLimit.Then, HoldDeadLetter)
}

func orDefault[T comparable](member *T, value T) { *member = cmp.Or(*member, value) }

func defaults() Spec {
	var s Spec
	s.Normalize()
	return s
}

const (
	minProbe = Duration(time.Second)
	maxProbe = Duration(24 * time.Hour)
	maxCron  = 200 // bytes
)

var (
	errProbe = errors.New(`must be two durations from 1s to 24h such as "5s..15m", the first not above the second, or a cron expression in UTC`)
	errCron  = errors.New(`must be a cron expression of five fields in UTC such as "0 2 * * *"`)
)

// checkProbe reports what keeps a text from being a probe schedule: "min..max"
// or a cron expression.
func checkProbe(text string) error {
	low, high, ok := strings.Cut(text, "..")
	if !ok {
		if err := checkCron(text); err != nil {
			return errProbe
		}
		return nil
	}
	least, err := ParseDuration(low)
	if err != nil {
		return errProbe
	}
	most, err := ParseDuration(high)
	if err != nil || high[0] == '.' || least < minProbe || most > maxProbe || least > most {
		return errProbe
	}
	return nil
}

// anyMoment is what schedules are tried with. Five years on, they give up.
var anyMoment = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// checkCron reports what keeps a text from being a cron expression: five fields,
// or a name such as @daily. Time zones are refused: every time here is UTC. So is
// @every, which has no fixed times.
func checkCron(text string) (err error) {
	if len(text) > maxCron {
		return errCron
	}
	if strings.Contains(text, "TZ=") {
		return errors.New("must not name a time zone: it is in UTC")
	}
	if strings.HasPrefix(text, "@every") {
		return errors.New(`must have fixed times such as "0 * * * *" in the place of @every`)
	}
	defer func() {
		if recover() != nil { // the parser panics on some texts, such as "TZ=0"
			err = errCron
		}
	}()
	schedule, err := cron.ParseStandard(text)
	if err != nil {
		return errCron
	}
	if schedule.Next(anyMoment).IsZero() {
		return errors.New("must name a time that comes, unlike 30 February")
	}
	return nil
}
