package store

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"time"
)

// messages is a run of PostgreSQL frontend messages, encoded.
type messages struct{ buf []byte }

var (
	copyHeader  = []byte("PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	copyTrailer = []byte{0xff, 0xff}
)

// begin starts a message; end writes its length.
func (m *messages) begin(kind byte) (at int) {
	m.buf = append(m.buf, kind, 0, 0, 0, 0)
	return len(m.buf) - 4
}

func (m *messages) end(at int) { binary.BigEndian.PutUint32(m.buf[at:], uint32(len(m.buf)-at)) }

func (m *messages) text(s string) { m.buf = append(append(m.buf, s...), 0) }

func (m *messages) query(sql string) {
	at := m.begin('Q')
	m.text(sql)
	m.end(at)
}

func (m *messages) copyData(p []byte) {
	at := m.begin('d')
	m.buf = append(m.buf, p...)
	m.end(at)
}

func (m *messages) copyDone() { m.end(m.begin('c')) }
func (m *messages) sync()     { m.end(m.begin('S')) }

// execute binds a prepared statement and executes it: parameters and results
// are text.
func (m *messages) execute(name string, args ...any) {
	at := m.begin('B')
	m.text("") // portal
	m.text(name)
	m.buf = binary.BigEndian.AppendUint16(m.buf, 0)
	m.buf = binary.BigEndian.AppendUint16(m.buf, uint16(len(args)))
	for _, arg := range args {
		m.arg(arg)
	}
	m.buf = binary.BigEndian.AppendUint16(m.buf, 0)
	m.end(at)
	at = m.begin('E')
	m.text("")
	m.buf = binary.BigEndian.AppendUint32(m.buf, 0)
	m.end(at)
}

// parseExecute is execute for a statement that is not prepared.
func (m *messages) parseExecute(s statement) {
	at := m.begin('P')
	m.text("")
	m.text(s.sql)
	m.buf = binary.BigEndian.AppendUint16(m.buf, 0)
	m.end(at)
	m.execute("", s.args...)
}

// arg appends a parameter with its length.
func (m *messages) arg(arg any) {
	at := len(m.buf)
	m.buf = append(m.buf, 0, 0, 0, 0)
	switch arg := arg.(type) {
	case nil:
		binary.BigEndian.PutUint32(m.buf[at:], 0xffffffff)
		return
	case *time.Time:
		if arg == nil {
			binary.BigEndian.PutUint32(m.buf[at:], 0xffffffff)
			return
		}
		m.buf = arg.AppendFormat(m.buf, time.RFC3339Nano)
	case time.Time:
		m.buf = arg.AppendFormat(m.buf, time.RFC3339Nano)
	case int64:
		m.buf = strconv.AppendInt(m.buf, arg, 10)
	case string:
		m.buf = append(m.buf, arg...)
	default:
		m.buf = fmt.Append(m.buf, arg)
	}
	binary.BigEndian.PutUint32(m.buf[at:], uint32(len(m.buf)-at-4))
}
