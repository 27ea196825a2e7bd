package dispatch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/rowcall/rowcall/subscriptions"
)

func TestDeadLettersThatAreKeptAndThoseThatAreDroppedAreAnnouncedApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNotices(nil, zerolog.Nop())
		sub := &subscriptions.Subscription{ID: "sub_a"}
		n.died(sub, "rejected", 1, 2, false)
		n.died(sub, "hold_limit_age", 7, 3, true)
		n.died(sub, "rejected", 9, 1, false)
		time.Sleep(noticeGather)
		n.gather(time.Now(), false)
		counts := map[string]int64{}
		for _, notice := range n.queue {
			data, _ := notice.Data.(noticeData)
			counts[notice.ID] = data.Count
		}
		at := "-946684801000000" // the clock of a bubble begins in 2000
		if len(counts) != 2 || counts["dead-sub_a"+at] != 3 || counts["dropped-sub_a"+at] != 3 {
			t.Errorf("announced: %v", counts)
		}
	})
}
