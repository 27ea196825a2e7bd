package dispatch

import (
	"net/http"

	"github.com/rowcall/rowcall/store"
)

// replayLane is the id of a memory's second lane.
const replayLane store.LaneID = 2

// startReplay has a part of the log delivered again, as the API does.
func (m *memory) startReplay(spec store.ReplaySpec) {
	m.mu.Lock()
	defer m.mu.Unlock()
	second := newLaneMemory(spec.From)
	second.owner = m.owner
	second.replay = &store.Replay{Job: "rpl_sim", State: store.JobRunning, ReplaySpec: spec}
	m.second = &second
	m.changes <- store.TopicJobs
}

// claimed is what the owner of a replay's lane is told of it.
func (l *laneMemory) claimed() *store.Replay {
	r := *l.replay
	r.Over = false // its state says so
	return &r
}

// progressed saves what became of a replay.
func (l *laneMemory) progressed(p store.Progress) {
	l.replay.Progress = p
	if p.Over {
		l.replay.State = store.JobDone
	}
}

// replayed is what the job of the replay says; nothing, before there is one.
func (m *memory) replayed() (p store.Progress, done bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.second == nil {
		return p, false
	}
	return m.second.replay.Progress, m.second.replay.State == store.JobDone
}

// replayOverflows is how many keys of the replay overflow.
func (m *memory) replayOverflows() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.second == nil {
		return 0
	}
	return len(m.second.overflows)
}

// idle reports whether every lane follows, and none has deliveries or overflows.
func (m *memory) idle() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	idle := func(l *laneMemory) bool { return l.following && len(l.deliveries)+len(l.overflows) == 0 }
	return idle(&m.laneMemory) && (m.second == nil || idle(m.second))
}

// apart is an endpoint with one judge for what is new and one for the replay.
type apart struct{ live, again *judge }

func (a apart) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Rowcall-Replay") != "" {
		return a.again.RoundTrip(r)
	}
	return a.live.RoundTrip(r)
}
