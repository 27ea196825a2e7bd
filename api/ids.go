package api

import (
	"strconv"
	"strings"
	"time"

	"github.com/rowcall/rowcall/store"
)

// deliveryID names a delivery: dlv_<lane>_<offset>. Callers take it as opaque.
type deliveryID struct {
	lane   store.LaneID
	offset store.Offset
}

func (id deliveryID) String() string {
	return "dlv_" + strconv.Itoa(int(id.lane)) + "_" + strconv.FormatInt(int64(id.offset), 10)
}

// parseDeliveryID reads exactly what String prints.
func parseDeliveryID(text string) (deliveryID, bool) {
	rest, ok := strings.CutPrefix(text, "dlv_")
	laneText, offsetText, ok2 := strings.Cut(rest, "_")
	lane, err1 := strconv.ParseInt(laneText, 10, 32)
	offset, err2 := strconv.ParseInt(offsetText, 10, 64)
	id := deliveryID{store.LaneID(lane), store.Offset(offset)}
	if !ok || !ok2 || err1 != nil || err2 != nil || lane < 1 || offset < 1 || id.String() != text {
		return deliveryID{}, false
	}
	return id, true
}

// attemptID names an attempt: att_<µs since 1970>_<lane>_<offset>. Callers take
// it as opaque.
type attemptID struct {
	at     time.Time
	lane   store.LaneID
	offset store.Offset
}

func (id attemptID) String() string {
	return "att_" + strconv.FormatInt(id.at.UnixMicro(), 10) + strings.TrimPrefix(deliveryID{id.lane, id.offset}.String(), "dlv")
}

// parseAttemptID reads exactly what String prints.
func parseAttemptID(text string) (attemptID, bool) {
	rest, ok := strings.CutPrefix(text, "att_")
	micros, delivery, _ := strings.Cut(rest, "_")
	at, err := strconv.ParseInt(micros, 10, 64)
	of, ok2 := parseDeliveryID("dlv_" + delivery)
	id := attemptID{time.UnixMicro(at).UTC(), of.lane, of.offset}
	const farthest = 253402300800_000000 // the year 10000
	if !ok || !ok2 || err != nil || at < 0 || at >= farthest || id.String() != text {
		return attemptID{}, false
	}
	return id, true
}
