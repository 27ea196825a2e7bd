package api

import (
	"strconv"
	"strings"

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
