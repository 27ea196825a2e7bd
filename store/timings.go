package store

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Timings are how long an attempt's stages took, to the microsecond. 0: there was
// none, such as over a connection that was there, or it is not known. Where a
// connection was not made, the last that is not 0 is the stage that failed.
type Timings struct {
	DNS       time.Duration
	Connect   time.Duration // all addresses that were tried
	TLS       time.Duration
	FirstByte time.Duration // from the start of the attempt to the head of the response; 0: none came
}

// stages are the timings in the order in which they are kept: what most attempts
// do not have comes last.
func (t *Timings) stages() [4]*time.Duration {
	return [...]*time.Duration{&t.FirstByte, &t.Connect, &t.TLS, &t.DNS}
}

// appendTo appends the column of a binary COPY: null where all are 0.
func (t *Timings) appendTo(p []byte) []byte {
	at := len(p)
	p = append(p, 0xff, 0xff, 0xff, 0xff)
	last := len(p)
	for _, took := range t.stages() {
		p = binary.AppendUvarint(p, uint64(max(took.Microseconds(), 0)))
		if *took > 0 {
			last = len(p)
		}
	}
	if p = p[:last]; last > at+4 {
		binary.BigEndian.PutUint32(p[at:], uint32(last-at-4))
	}
	return p
}

// ScanBytes reads what appendTo wrote (pgtype.BytesScanner).
func (t *Timings) ScanBytes(p []byte) error {
	*t = Timings{}
	for _, took := range t.stages() {
		if len(p) == 0 {
			break
		}
		n, size := binary.Uvarint(p)
		if size <= 0 {
			return fmt.Errorf("read timings: %x is no number", p)
		}
		*took = time.Duration(n) * time.Microsecond
		p = p[size:]
	}
	return nil
}
