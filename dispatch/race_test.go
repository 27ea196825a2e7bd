//go:build race

package dispatch_test

import "runtime"

// Two goroutines of one synctest bubble that look at expired timers at the
// same time crash the race detector (SIGSEGV in __tsan, golang/go#78156): the
// runtime lends both the one race context of the bubble. One processor keeps
// them apart; the detector finds races by what happens before what, so it
// needs no second one.
func init() { runtime.GOMAXPROCS(1) }
