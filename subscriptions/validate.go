package subscriptions

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	maxName        = 100
	maxDescription = 1000
	maxLabels      = 20
	maxLabelValue  = 100
	maxEvents      = 100
	maxExpression  = 16 << 10
)

var labelKey = regexp.MustCompile(`^[a-z0-9._/-]{1,63}$`)

// Validate returns all faults of a Spec at once as FieldErrors, or nil. Members
// that are zero stand for their defaults.
func (s Spec) Validate() error {
	s.Normalize()
	return s.faults().sorted()
}

// faults judges a Spec with every member written in.
func (s *Spec) faults() FieldErrors {
	var e FieldErrors
	e.checkIdentity(s)
	e.checkEndpoint(&s.Endpoint)
	e.checkDelivery(s)
	e.checkPolicies(s)
	e.checkSyntax("filter", s.Filter)
	e.checkSyntax("transform", s.Transform)
	e.checkSyntax("ordering_key", s.OrderingKey)
	return e
}

func (e *FieldErrors) checkIdentity(s *Spec) {
	e.check("name", checkText(s.Name, 1, maxName, false))
	if strings.TrimSpace(s.Name) != s.Name {
		e.add("name", "must not start or end with white space")
	}
	e.check("description", checkText(s.Description, 0, maxDescription, true))
	if len(s.Labels) > maxLabels {
		e.add("labels", "must have at most %d members", maxLabels)
	} else {
		for _, key := range slices.Sorted(maps.Keys(s.Labels)) {
			path := memberPath("labels", key)
			if !labelKey.MatchString(key) {
				e.add(path, "must have a key of 1 to 63 lower-case letters, digits and ._/-")
			}
			e.check(path, checkText(s.Labels[key], 0, maxLabelValue, false))
		}
	}
	switch {
	case len(s.Events) == 0:
		e.add("events", `is required: 1 to %d patterns such as "public.orders.*"`, maxEvents)
	case len(s.Events) > maxEvents:
		e.add("events", "must have at most %d patterns", maxEvents)
	default:
		for i, pattern := range s.Events {
			e.check(fmt.Sprintf("events[%d]", i), CheckPattern(pattern))
		}
	}
	e.checkExpression("filter", s.Filter)
	e.checkExpression("transform", s.Transform)
}

func (e *FieldErrors) checkExpression(field string, text *string) {
	switch {
	case text == nil:
	case strings.TrimSpace(*text) == "":
		e.add(field, "must not be empty; null stands for none")
	case len(*text) > maxExpression:
		e.add(field, "must have at most %d bytes", maxExpression)
	default:
		e.check(field, checkText(*text, 0, maxExpression, true))
	}
}

// checkSyntax judges an expression as far as it can be without the tables it is
// for, unless the field has a fault already.
func (e *FieldErrors) checkSyntax(field string, text *string) {
	if text != nil && !e.has(field) {
		e.check(field, checkSource(*text))
	}
}

func (e *FieldErrors) checkDelivery(s *Spec) {
	checkOneOf(e, "format", s.Format, CloudEvents, CloudEventsBinary, Raw)
	checkOneOf(e, "ordering", s.Ordering, OrderKey, OrderNone)
	if s.Compact && s.Ordering == OrderNone {
		e.add("compact", `must be false where ordering is "none": there is no newest event of a key without keys`)
	}
	if s.Compact && s.OrderingKey != nil {
		e.add("compact", "must be false beside an ordering_key: rows that share it would supersede each other")
	}
	e.checkExpression("ordering_key", s.OrderingKey)
	if s.OrderingKey != nil && s.Ordering == OrderNone {
		e.add("ordering_key", `must be null where ordering is "none"`)
	}
	checkOneOf(e, "on_dead", s.OnDead, Skip, Block)
	checkRange(e, "max_in_flight", s.MaxInFlight, 1, 1000)
	if s.RateLimit != nil {
		checkRange(e, "rate_limit.per_second", s.RateLimit.PerSecond, 0.001, 100_000)
	}
	checkRange(e, "batch.max_events", s.Batch.MaxEvents, 1, 1000)
	if s.Batch.MaxEvents > 1 && s.Format != CloudEvents {
		e.add("batch.max_events", `must be 1 unless format is "cloudevents"`)
	}
	checkRange(e, "batch.max_wait", s.Batch.MaxWait, 0, Duration(time.Minute))
	checkRange(e, "batch.max_bytes", s.Batch.MaxBytes, 1<<10, 10<<20)
}

func (e *FieldErrors) checkPolicies(s *Spec) {
	r := s.Retry
	checkRange(e, "retry.initial", r.Initial, Duration(100*time.Millisecond), Duration(time.Hour))
	checkRange(e, "retry.max", r.Max, Duration(100*time.Millisecond), Duration(week))
	if r.Max < r.Initial && !e.has("retry.max") && !e.has("retry.initial") {
		e.add("retry.max", "must not be below retry.initial")
	}
	checkRange(e, "retry.max_attempts", r.MaxAttempts, 1, 1000)
	checkRange(e, "retry.max_age", r.MaxAge, Duration(time.Minute), Duration(365*day))

	e.check("outage.probe", checkProbe(s.Outage.Probe))
	hold := s.Outage.HoldLimit
	checkRange(e, "outage.hold_limit.age", hold.Age, Duration(time.Minute), Duration(365*day))
	if hold.Bytes != nil && *hold.Bytes < 1 {
		e.add("outage.hold_limit.bytes", "must be at least 1; null stands for no limit")
	}
	checkOneOf(e, "outage.hold_limit.then", hold.Then, HoldDeadLetter, HoldDrop)

	if w := s.Window; w != nil {
		e.check("window.cron", checkCron(w.Cron))
		checkRange(e, "window.for", w.For, Duration(minWindow), Duration(maxWindow))
		if !e.has("window.cron") && !e.has("window.for") {
			e.check("window.for", checkWindow(*w, anyMoment))
		}
	}

	if len(s.Signing) == 0 {
		e.add("signing", `must name at least one of "v1", "v1a"`)
	}
	for i, scheme := range s.Signing {
		path := fmt.Sprintf("signing[%d]", i)
		checkOneOf(e, path, scheme, SignHMAC, SignEd25519)
		if slices.Contains(s.Signing[:i], scheme) {
			e.add(path, "is given more than once")
		}
	}
}

func checkRange[T int | int64 | float64 | Duration](e *FieldErrors, field string, value, least, most T) {
	if !(value >= least && value <= most) { // so written, it refuses NaN
		e.add(field, "must be from %v to %v", least, most)
	}
}

func checkOneOf[T ~string](e *FieldErrors, field string, value T, known ...T) {
	if slices.Contains(known, value) {
		return
	}
	quoted := make([]string, len(known))
	for i, k := range known {
		quoted[i] = fmt.Sprintf("%q", string(k))
	}
	e.check(field, errors.New("must be "+strings.Join(quoted, " or ")))
}
