package postgres

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// wire reads the bytes of one message from the front. What is not there reads
// as zero and makes the reader bad for good, so a caller asks once, at the end.
type wire struct {
	rest []byte
	bad  bool
}

var errShort = errors.New("message is shorter or longer than it says")

func (w *wire) byte() byte {
	if len(w.rest) < 1 {
		w.bad = true
		return 0
	}
	c := w.rest[0]
	w.rest = w.rest[1:]
	return c
}

func (w *wire) uint16() uint16 {
	if len(w.rest) < 2 {
		w.bad, w.rest = true, nil
		return 0
	}
	v := binary.BigEndian.Uint16(w.rest)
	w.rest = w.rest[2:]
	return v
}

func (w *wire) uint32() uint32 {
	if len(w.rest) < 4 {
		w.bad, w.rest = true, nil
		return 0
	}
	v := binary.BigEndian.Uint32(w.rest)
	w.rest = w.rest[4:]
	return v
}

func (w *wire) uint64() uint64 {
	if len(w.rest) < 8 {
		w.bad, w.rest = true, nil
		return 0
	}
	v := binary.BigEndian.Uint64(w.rest)
	w.rest = w.rest[8:]
	return v
}

// bytes reads n bytes. They are the message's own.
func (w *wire) bytes(n uint32) []byte {
	if uint64(n) > uint64(len(w.rest)) {
		w.bad, w.rest = true, nil
		return nil
	}
	p := w.rest[:n:n]
	w.rest = w.rest[n:]
	return p
}

// string reads up to a zero byte, and copies.
func (w *wire) string() string {
	n := bytes.IndexByte(w.rest, 0)
	if n < 0 {
		w.bad, w.rest = true, nil
		return ""
	}
	s := string(w.rest[:n])
	w.rest = w.rest[n+1:]
	return s
}

// end is an error unless everything was read and nothing was missing.
func (w *wire) end() error {
	if w.bad || len(w.rest) > 0 {
		return errShort
	}
	return nil
}

// The states of a column in a tuple, as they stand on the wire.
const (
	cellNull      = 'n'
	cellUnchanged = 'u' // TOASTed, and the server did not send it
	cellText      = 't'
)

// cell is one column's value in a tuple. Its text is the message's own.
type cell struct {
	kind byte
	text []byte
}

// tuple reads a tuple of so many columns into cells.
func (w *wire) tuple(cells []cell, columns int) []cell {
	cells = cells[:0]
	if int(w.uint16()) != columns {
		w.bad = true
		return cells
	}
	for range columns {
		kind := w.byte()
		var text []byte
		switch kind {
		case cellText:
			text = w.bytes(w.uint32())
		case cellNull, cellUnchanged:
		default:
			w.bad = true
		}
		if w.bad {
			return cells
		}
		cells = append(cells, cell{kind, text})
	}
	return cells
}
