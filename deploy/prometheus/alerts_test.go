package prometheus_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// An installation whose rowcall is well stands beside each in which something is
// wrong, under the same Prometheus: with other labels, without any, and as a second
// instance of the same one. None hides what another says.
func TestEveryAlertFiresWhereItOughtTo(t *testing.T) {
	t.Parallel()
	const minutes = 100
	always := func(from, to int) []int {
		var all []int
		for m := from; m < to; m++ {
			all = append(all, m)
		}
		return all
	}
	covered := map[string]bool{}
	for name, c := range map[string]struct {
		alert string
		wrong []string
		alone bool   // there is no second instance of the installation
		of    string // labels of the alert beside the installation's
		want  []int
	}{
		"a single event is given up": {
			alert: "RowcallEventsGivenUp", wrong: []string{`rowcall_given_up_events_total{then="drop",reason="hold_limit_age"} 0x20 1x100`},
			of: `reason="hold_limit_age", then="drop"`, want: always(21, 35),
		},
		"events are given up before the first scrape": {
			alert: "RowcallEventsGivenUp", of: `reason="hold_limit_age", then="drop"`, want: always(30, 45),
			wrong: []string{`process_start_time_seconds 1741x100`, `rowcall_given_up_events_total{then="drop",reason="hold_limit_age"} _x30 8097x70`},
		},
		"a process that gave events up starts again": {
			alert: "RowcallEventsGivenUp", of: `reason="hold_limit_age", then="drop"`, want: always(21, 35),
			wrong: []string{`process_start_time_seconds -86400x24 1500x76`, `rowcall_given_up_events_total{then="drop",reason="hold_limit_age"} 0x20 7x3 0x76`},
		},
		"Prometheus comes back, and what was given up is long ago": {
			alert: "RowcallEventsGivenUp", wrong: []string{`rowcall_given_up_events_total{then="drop",reason="hold_limit_age"} _x50 5x50`},
		},
		"dead ranges are dropped": {
			alert: "RowcallEventsGivenUp", wrong: []string{`rowcall_dead_range_dropped_events_total 0x20 1000x80`}, want: always(21, 35),
		},
		"a target is not allowed": {
			alert: "RowcallTargetBlocked", wrong: []string{`rowcall_attempts_total{outcome="blocked",reason="blocked"} 0x20 1x80`}, want: always(21, 35),
		},
		"files run out": {
			alert: "RowcallOutOfResources", wrong: []string{`rowcall_attempts_total{outcome="failed",reason="local_resource"} 0x20 1x80`},
			of: `instance="a:1"`, want: always(21, 25),
		},
		"attempts are not recorded": {
			alert: "RowcallHistoryIncomplete", wrong: []string{`rowcall_attempts_unrecorded_total 0x20 1x80`}, want: always(21, 35),
		},
		"a dead letter is made while another is discarded": {
			alert: "RowcallDeadLetters", wrong: []string{`rowcall_dead_letters_total{reason="rejected"} 0x20 1x80`, `rowcall_deliveries{state="dead"} 5x100`},
			of: `reason="rejected"`, want: always(21, 35),
		},
		"the store is down": {
			alert: "RowcallStoreDown", alone: true, wrong: []string{`rowcall_store_up 1x20 0x80`}, want: always(22, minutes),
		},
		"one of two instances cannot read the store": {
			alert: "RowcallStoreDown", wrong: []string{`rowcall_store_up 1x20 0x80`},
		},
		"the log fills": {
			alert: "RowcallLogFilling", wrong: []string{`rowcall_log_bytes 10x20 900x80`}, want: always(26, minutes),
		},
		"the only instance does not answer": {
			alert: "RowcallDown", alone: true, wrong: []string{`up 1x20 0x80`, `rowcall_build_info{version="1"} 1x20 stale _x79`}, want: always(23, minutes),
		},
		"the only instance is no target any more": {
			alert: "RowcallDown", alone: true, wrong: []string{`up 1x20 stale _x79`, `rowcall_build_info{version="1"} 1x20 stale _x79`}, want: always(23, minutes),
		},
		"one of two instances does not answer": {
			alert: "RowcallDown", wrong: []string{`up 1x20 0x80`, `rowcall_build_info{version="1"} 1x20 stale _x79`},
		},
		"an instance does not answer": {
			alert: "RowcallInstanceDown", wrong: []string{`up 1x20 0x80`, `rowcall_build_info{version="1"} 1x20 stale _x79`},
			of: `instance="a:1"`, want: always(26, minutes),
		},
		"another target does not answer": {
			alert: "RowcallInstanceDown", wrong: []string{`up{instance="other:1"} 0x100`},
		},
		"an upgrade": {
			alert: "RowcallDown", alone: true, wrong: []string{`rowcall_build_info{version="1"} 1x20 stale _x79`, `rowcall_build_info{version="2"} _x21 1x79`},
		},
		"a source has a gap": {
			alert: "RowcallSourceGap", wrong: []string{`rowcall_source_state{source="main",state="gap"} 0x20 1x80`},
			of: `source="main"`, want: always(21, minutes),
		},
		"a source is refused": {
			alert: "RowcallSourceRefused", wrong: []string{`rowcall_source_state{source="main",state="refused"} 0x20 1x80`},
			of: `source="main"`, want: always(22, minutes),
		},
		"a source is away": {
			alert: "RowcallSourceWaiting", wrong: []string{`rowcall_source_state{source="main",state="waiting"} 0x20 1x80`},
			of: `source="main"`, want: always(26, minutes),
		},
		"WAL piles up": {
			alert: "RowcallSourceLag", wrong: []string{`rowcall_source_lag_bytes{source="main"} 0x20 2000000000x80`},
			of: `source="main"`, want: always(31, minutes),
		},
		"a source is late": {
			alert: "RowcallSourceLag", wrong: []string{`rowcall_source_lag_seconds{source="main"} 0x20 61x80`},
			of: `source="main"`, want: always(31, minutes),
		},
		"appends are slow": {
			alert: "RowcallAppendSlow", want: always(11, minutes), // from the second scrape on there is a rate
			wrong: []string{`rowcall_append_seconds_bucket{le="0.1"} 0x100`},
		},
		"an endpoint is down": {
			alert: "RowcallEndpointParked", wrong: []string{`rowcall_endpoint_health{subscription="sub_a",state="parked"} _x20 1x80`},
			of: `subscription="sub_a"`, want: always(35, minutes),
		},
		"an endpoint recovers and does not get well": {
			alert: "RowcallEndpointFlapping", wrong: []string{`rowcall_endpoint_health{subscription="sub_a",state="recovering"} _x20 1x80`},
			of: `subscription="sub_a"`, want: always(50, minutes),
		},
		"events wait": {
			alert: "RowcallUndelivered", wrong: []string{`rowcall_oldest_undelivered_seconds{subscription="sub_a"} 0x20 3700+60x80`},
			of: `subscription="sub_a"`, want: always(31, minutes),
		},
		"events wait for a window": {
			alert: "RowcallUndelivered", wrong: []string{
				`rowcall_oldest_undelivered_seconds{subscription="sub_a"} 3700+60x100`, `rowcall_subscription_hold{subscription="sub_a",hold="window"} 1x100`,
			},
		},
		"events still wait long after a window has opened": {
			alert: "RowcallUndelivered", of: `subscription="sub_a"`, want: always(80, minutes), // an hour after it, and ten minutes
			wrong: []string{
				`rowcall_oldest_undelivered_seconds{subscription="sub_a"} 3700+60x100`, `rowcall_subscription_hold{subscription="sub_a",hold="window"} 1x10 stale`,
			},
		},
		"another subscription is paused": {
			alert: "RowcallUndelivered", of: `subscription="sub_a"`, want: always(31, minutes),
			wrong: []string{
				`rowcall_oldest_undelivered_seconds{subscription="sub_a"} 0x20 3700+60x80`, `rowcall_subscription_hold{subscription="sub_b",hold="paused"} 1x100`,
			},
		},
		"events of those that are counted together wait, and some of them are paused": {
			alert: "RowcallUndelivered", of: `subscription="other"`, want: always(10, minutes),
			wrong: []string{`rowcall_oldest_undelivered_seconds{subscription="other"} 3700+60x100`, `rowcall_subscription_hold{subscription="other",hold="paused"} 3x100`},
		},
		"a filter fails": {
			alert: "RowcallFilterFails", wrong: []string{`rowcall_subscription_hold{subscription="sub_a",hold="filter_error"} _x20 1x80`},
			of: `subscription="sub_a"`, want: always(21, minutes),
		},
		"an endpoint is gone for good": {
			alert: "RowcallSubscriptionDisabled", wrong: []string{`rowcall_subscription_hold{subscription="sub_a",hold="disabled"} _x20 1x80`},
			of: `subscription="sub_a"`, want: always(21, minutes),
		},
		"the store refuses a lane": {
			alert: "RowcallSubscriptionDisabled", wrong: []string{`rowcall_subscription_hold{subscription="sub_a",hold="store"} _x20 1x80`},
			of: `subscription="sub_a"`, want: always(21, minutes),
		},
		"a certificate cannot be read": {
			alert: "RowcallEndpointUnusable", wrong: []string{`rowcall_subscription_hold{subscription="sub_a",hold="endpoint"} _x20 1x80`},
			of: `subscription="sub_a"`, want: always(21, minutes),
		},
		"a subscription is paused": {
			alert: "RowcallSubscriptionDisabled", wrong: []string{`rowcall_subscription_hold{subscription="sub_a",hold="paused"} _x20 1x80`},
		},
	} {
		covered[c.alert] = covered[c.alert] || c.want != nil
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, ok := rules(t)[c.alert]
			if !ok {
				t.Fatalf("there is no rule %s", c.alert)
			}
			// Each is the one in which it is wrong, and the others are well.
			for _, installation := range []string{``, `job="a"`, `job="a",namespace="b"`, `cluster="c",job="a",namespace="b"`} {
				var written []string
				for _, other := range []string{`job="rowcall"`, `job="a",namespace="other"`, `cluster="d",job="a",namespace="b"`} {
					written = append(written, well(other+`,instance="o:1"`, minutes)...)
				}
				written = append(written, well(strings.Trim(installation+`,instance="a:1"`, ","), minutes, c.wrong...)...)
				if !c.alone {
					written = append(written, well(strings.Trim(installation+`,instance="b:1"`, ","), minutes)...)
				}
				want := map[string][]int{}
				if c.want != nil {
					want[sorted(installation, c.of)] = c.want
				}
				if diff := cmp.Diff(want, firing(t, r, written, minutes)); diff != "" {
					t.Errorf("in {%s} it fires otherwise (-want +got):\n%s", installation, diff)
				}
			}
		})
	}
	for name := range rules(t) {
		if !covered[name] {
			t.Errorf("%s: nothing shows that it ever fires", name)
		}
	}
}

func TestNoAlertFiresWhereAllIsWell(t *testing.T) {
	t.Parallel()
	written := slices.Concat(well(`job="rowcall",instance="a:1"`, 100), well(`job="rowcall",instance="b:1"`, 100), well(`instance="c:1"`, 100))
	for _, r := range rules(t) {
		if fires := firing(t, r, written, 100); len(fires) > 0 {
			t.Errorf("%s: %v", r.Alert, slices.Collect(maps.Keys(fires)))
		}
	}
}

func TestThatNothingIsScrapedIsAnAlert(t *testing.T) {
	t.Parallel()
	fires := firing(t, rules(t)["RowcallDown"], []string{`up{job="another"} 1x10`}, 10)
	if diff := cmp.Diff(map[string][]int{"{}": {2, 3, 4, 5, 6, 7, 8, 9}}, fires); diff != "" {
		t.Error(diff)
	}
}
