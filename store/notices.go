package store

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// Notice is something that rowcall says of itself, as an event.
type Notice struct {
	ID      string // printable ASCII without a dot: one that was published before is not published again
	Type    string // rowcall.…
	Subject string // what it is about: its notices are in one order
	Data    any    // becomes the JSON of the event's data
}

// Announce appends notices to the log. To announce the same again is safe.
func (s *Store) Announce(ctx context.Context, notices []Notice) error {
	events := make([]Published, len(notices))
	for i, n := range notices {
		data, err := json.Marshal(n.Data)
		if err != nil {
			return fmt.Errorf("announce %s: %w", n.Type, err)
		}
		events[i] = Published{Notice: true, ID: n.ID, Type: n.Type, Key: NoticePrefix + n.Subject, Subject: n.Subject, Data: cleanJSON(data)}
	}
	_, err := s.Publish(ctx, events)
	return err
}

// NoticePrefix begins the key of every notice that Announce appends.
const NoticePrefix = "rowcall/"

// announce announces what is also in the log of the program: it does not wait
// for long, and what cannot be appended is said there alone.
func (s *Store) announce(ctx context.Context, n Notice) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := s.Announce(ctx, []Notice{n}); err != nil {
		s.log.Warn().Err(err).Str("type", n.Type).Msg("notice not published")
	}
}

// fillingData is the data of rowcall.log.filling.
type fillingData struct {
	Bytes    int64  `json:"bytes"`
	MaxBytes int64  `json:"max_bytes"`
	Share    int    `json:"percent"`
	Oldest   string `json:"oldest"`
	Head     string `json:"head"`
	Hint     string `json:"hint"`
}

func (s *Store) announceFilling(ctx context.Context, level logLevel, stats LogStats) {
	s.announce(ctx, Notice{
		// Once an hour and step, whatever number of restarts.
		ID:   "log-filling-" + strconv.Itoa(int(level)) + "-" + strconv.FormatInt(time.Now().Unix()/3600, 10),
		Type: "rowcall.log.filling", Subject: "log",
		Data: fillingData{
			Bytes: stats.Bytes, MaxBytes: s.config.LogMaxBytes, Share: int(float64(stats.Bytes) / float64(s.config.LogMaxBytes) * 100),
			Oldest: stats.Oldest.String(), Head: stats.Head.String(),
			Hint: "rowcall log shows which subscriptions hold it; at 100 % the oldest events go. Mend or delete those, or raise ROWCALL_LOG_MAX_BYTES",
		},
	})
}

// droppedData is the data of rowcall.delivery.dead where dead letters went for good.
type droppedData struct {
	Subscription noticeSubscription `json:"subscription"`
	Count        int64              `json:"count"`
	Reasons      map[string]int64   `json:"reasons"`
	Dropped      bool               `json:"dropped"`
	Hint         string             `json:"hint"`
}

type noticeSubscription struct {
	ID string `json:"id"`
}

// announceDropped says once a minute which dead letters went for good.
func (s *Store) announceDropped(ctx context.Context) {
	for subscription, events := range s.droppedRanges {
		s.announce(ctx, Notice{
			ID:   "dropped-" + subscription + "-" + strconv.FormatInt(time.Now().UnixMilli(), 10),
			Type: "rowcall.delivery.dead", Subject: subscription,
			Data: droppedData{
				Subscription: noticeSubscription{subscription}, Count: events, Reasons: map[string]int64{"log_full": events}, Dropped: true,
				Hint: "the log was at its size limit; raise ROWCALL_LOG_MAX_BYTES",
			},
		})
	}
	clear(s.droppedRanges)
}

// lagAfter is how old a source's heartbeat gets before it lags.
const lagAfter = time.Minute

const laggingSQL = `
SELECT name, heartbeat_at, state, coalesce(lag_bytes, 0), reason FROM rowcall.sources
WHERE heartbeat_at < clock_timestamp() - $1::interval AND kind = 'postgres' AND state <> 'gap'`

// laggingData is the data of rowcall.source.lagging.
type laggingData struct {
	Source   string    `json:"source"`
	State    string    `json:"state"`
	Since    time.Time `json:"since"` // the last heartbeat that came back
	LagBytes int64     `json:"lag_bytes"`
	Reason   string    `json:"reason"`
	Hint     string    `json:"hint"`
}

// announceLag says of each source whose heartbeat stays away that it lags, once
// a heartbeat.
func (s *Store) announceLag(ctx context.Context) error {
	rows, err := s.pool.Query(ctx, laggingSQL, lagAfter)
	if err != nil {
		return fmt.Errorf("look for sources that lag: %w", err)
	}
	lagging, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (laggingData, error) {
		var d laggingData
		err := row.Scan(&d.Source, &d.Since, &d.State, &d.LagBytes, &d.Reason)
		d.Since = d.Since.UTC()
		return d, err
	})
	if err != nil {
		return fmt.Errorf("look for sources that lag: %w", err)
	}
	for _, d := range lagging {
		if s.lagSaid[d.Source].Equal(d.Since) {
			continue
		}
		s.lagSaid[d.Source] = d.Since
		d.Hint = "rowcall sources " + d.Source + " says what is the matter"
		s.announce(ctx, Notice{
			ID:   "lagging-" + hex.EncodeToString([]byte(d.Source)) + "-" + strconv.FormatInt(d.Since.UnixMicro(), 10),
			Type: "rowcall.source.lagging", Subject: d.Source, Data: d,
		})
	}
	return nil
}
