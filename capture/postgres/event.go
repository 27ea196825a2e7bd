package postgres

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/rowcall/rowcall/store"
)

// flaws are the columns of one tuple that its JSON does not give in full.
type flaws struct {
	unchanged []int // TOASTed, and not sent
	lossy     []int // with bytes that are no valid UTF-8
	oversize  []int // longer than config.maxValueBytes
}

func (f *flaws) reset() {
	f.unchanged, f.lossy, f.oversize = f.unchanged[:0], f.lossy[:0], f.oversize[:0]
}

// The kinds of tuple, as they stand on the wire.
const (
	tupleNew = 'N'
	tupleKey = 'K' // old, and of its columns only those of the key hold values
	tupleOld = 'O' // old and whole: replica identity full
)

// change reads an insert, update or delete and appends its event. Nothing is
// appended before the whole message was read.
func (d *decoder) change(message byte, w *wire, b *store.Batch) error {
	r, err := d.relationOf(w.uint32())
	if err != nil {
		return err
	}
	columns := len(r.columns)
	kind, before := w.byte(), byte(0)
	if message != 'I' && (kind == tupleKey || kind == tupleOld) {
		before = kind
		d.before = w.tuple(d.before, columns)
		if message == 'U' {
			kind = w.byte()
		}
	}
	if message != 'D' {
		if kind != tupleNew {
			return fmt.Errorf("tuple %q is not known", kind)
		}
		d.row = w.tuple(d.row, columns)
	} else if before == 0 {
		return fmt.Errorf("tuple %q is not known", kind)
	}
	if err := w.end(); err != nil {
		return err
	}
	if r.own {
		return nil
	}
	ordinal, fresh := d.next()
	if !fresh {
		return nil
	}
	d.rowFlaws.reset()
	d.beforeFlaws.reset()
	switch message {
	case 'I':
		d.insert(r, ordinal, b)
	case 'U':
		d.update(r, ordinal, before, b)
	default:
		d.delete(r, ordinal, before, b)
	}
	return nil
}

func (d *decoder) insert(r *relation, ordinal int64, b *store.Batch) {
	p := d.start(r, opInsert, ordinal, d.row, nil, b)
	p = append(p, `,"row":`...)
	p = d.appendRow(p, r, d.row, &d.rowFlaws)
	p = append(p, `,"old":null,"changed":null`...)
	b.End(d.finish(p, r, ordinal, d.row))
}

func (d *decoder) update(r *relation, ordinal int64, before byte, b *store.Batch) {
	full := before == tupleOld
	var oldKey []cell
	if before != 0 {
		d.fill(r, full)
		if d.keyChanged(r) {
			oldKey = d.before
		}
	}
	p := d.start(r, opUpdate, ordinal, d.row, oldKey, b)
	p = append(p, `,"row":`...)
	p = d.appendRow(p, r, d.row, &d.rowFlaws)
	p = append(p, `,"old":`...)
	switch {
	case full && len(r.key) == 0:
		p = d.appendRow(p, r, d.before, &d.beforeFlaws)
	case full:
		p = d.appendDifference(p, r)
	case oldKey != nil:
		p = d.appendKey(p, r, oldKey)
	default:
		p = append(p, '{', '}')
	}
	if full {
		p = d.appendChanged(append(p, `,"changed":`...), r)
	} else {
		p = append(p, `,"changed":null`...)
	}
	b.End(d.finish(p, r, ordinal, d.row))
}

func (d *decoder) delete(r *relation, ordinal int64, before byte, b *store.Batch) {
	p := d.start(r, opDelete, ordinal, d.before, nil, b)
	p = append(p, `,"row":null,"old":`...)
	if before == tupleOld {
		p = d.appendRow(p, r, d.before, &d.rowFlaws)
	} else if len(r.key) > 0 {
		p = d.appendKey(p, r, d.before)
	} else {
		p = append(p, '{', '}')
	}
	p = append(p, `,"changed":null`...)
	b.End(d.finish(p, r, ordinal, d.before))
}

// truncate reads a truncate message and appends an event for each table.
func (d *decoder) truncate(w *wire, b *store.Batch) error {
	tables := w.uint32()
	w.byte() // whether it cascaded, restarted identities
	d.truncated = d.truncated[:0]
	for range tables {
		oid := w.uint32()
		if w.bad {
			return errShort
		}
		r, err := d.relationOf(oid)
		if err != nil {
			return err
		}
		d.truncated = append(d.truncated, r)
	}
	if err := w.end(); err != nil {
		return err
	}
	for _, r := range d.truncated {
		if r.own {
			continue
		}
		ordinal, fresh := d.next()
		if !fresh {
			continue
		}
		event := d.event(ordinal)
		event.Kind, event.Relation, event.Type, event.Key = store.KindTruncate, r.version, r.types[opTruncate], r.table
		p := append(b.Begin(event), r.heads[opTruncate]...)
		p = append(p, `null,"row":null,"old":null,"changed":null,"unchanged":[]`...)
		b.End(d.appendTx(p, ordinal))
	}
	return nil
}

// fill gives each tuple of an update what only the other one has. TOASTed
// values that did not change are in the old tuple alone. A null in an old key
// was not sent: key columns are never null, but a partition may have another
// identity than its root. Then the column did not change, as far as is known.
func (d *decoder) fill(r *relation, full bool) {
	for i := range d.row {
		before, row := &d.before[i], &d.row[i]
		switch {
		case full:
			if row.kind == cellUnchanged {
				*row = *before
			}
		case r.columns[i].inKey:
			if before.kind != cellText {
				*before = *row
			} else if row.kind == cellUnchanged {
				*row = *before
			}
		}
	}
}

// keyChanged compares the keys of the old tuple and the new one.
func (d *decoder) keyChanged(r *relation) bool {
	for _, i := range r.key {
		if d.differs(i) {
			return true
		}
	}
	return false
}

// start begins a row event, up to the value of the member key.
//
// Where a key column is in none of the tuples that were sent (servers before
// 13.6 and 14.2 left out an old key whose value is TOASTed and did not
// change), the key cannot be known. Then the event is a barrier for its table,
// as a truncate is, and the member is null: late, but never out of order.
func (d *decoder) start(r *relation, o op, ordinal int64, key, oldKey []cell, b *store.Batch) []byte {
	event := d.event(ordinal)
	event.Type, event.Relation = r.types[o], r.version
	known := true
	for _, i := range r.key {
		known = known && key[i].kind != cellUnchanged
	}
	switch {
	case len(r.key) == 0:
		event.Kind, event.Key = store.KindKeyless, r.table
	case !known:
		event.Kind, event.Key = store.KindTruncate, r.table
	default:
		event.Kind = store.KindRow
		d.text = appendRowKey(d.text[:0], r, key)
		event.Key = d.strings.string(d.text)
		if oldKey != nil {
			d.text = appendRowKey(d.text[:0], r, oldKey)
			event.OldKey = d.strings.string(d.text)
		}
	}
	p := append(b.Begin(event), r.heads[o]...)
	if event.Kind != store.KindRow {
		return append(p, "null"...)
	}
	return d.appendKey(p, r, key)
}

// appendRowKey appends <schema>.<table>/<column>=<value>,… with the values as
// the server prints them. A column without a value is its name alone.
func appendRowKey(dst []byte, r *relation, key []cell) []byte {
	dst = append(dst, r.prefix...)
	for n, i := range r.key {
		if n > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, r.columns[i].label...)
		if c := &key[i]; c.kind == cellText {
			dst = appendEncoded(append(dst, '='), c.text)
		}
	}
	return dst
}

// appendKey appends the key columns of a tuple as an object. They are small
// (the server bounds them by what fits an index) and never left out for size.
func (d *decoder) appendKey(p []byte, r *relation, cells []cell) []byte {
	start := len(p)
	for _, i := range r.key {
		p = append(p, r.columns[i].member...)
		p = d.appendCell(p, r, i, &cells[i])
	}
	return closeObject(p, start)
}

// closeObject ends an object whose members, a comma before each, start there.
func closeObject(p []byte, start int) []byte {
	if len(p) == start {
		return append(p, '{', '}')
	}
	p[start] = '{'
	return append(p, '}')
}

func (d *decoder) appendCell(p []byte, r *relation, column int, c *cell) []byte {
	if c.kind != cellText {
		return append(p, "null"...)
	}
	return d.encoder.value(p, &r.columns[column].form, c.text)
}

// appendRow appends a tuple as an object, and notes what it cannot give in full.
func (d *decoder) appendRow(p []byte, r *relation, cells []cell, notes *flaws) []byte {
	start := len(p)
	for i := range cells {
		p = d.appendMember(p, r, i, &cells[i], notes)
	}
	return closeObject(p, start)
}

// appendDifference appends the old values of the columns that differ.
func (d *decoder) appendDifference(p []byte, r *relation) []byte {
	start := len(p)
	for i := range d.before {
		if d.differs(i) {
			p = d.appendMember(p, r, i, &d.before[i], &d.beforeFlaws)
		}
	}
	return closeObject(p, start)
}

func (d *decoder) appendMember(p []byte, r *relation, i int, c *cell, notes *flaws) []byte {
	switch {
	case c.kind == cellUnchanged:
		notes.unchanged = append(notes.unchanged, i)
		return p
	case int64(len(c.text)) > d.config.maxValueBytes:
		notes.oversize = append(notes.oversize, i)
		return p
	}
	p = append(p, r.columns[i].member...)
	d.encoder.lossy = false
	p = d.appendCell(p, r, i, c)
	if d.encoder.lossy {
		notes.lossy = append(notes.lossy, i)
	}
	return p
}

// differs reports whether a column that was sent in both tuples differs.
func (d *decoder) differs(i int) bool {
	before, row := &d.before[i], &d.row[i]
	if before.kind == cellUnchanged || row.kind == cellUnchanged {
		return false
	}
	return before.kind != row.kind || !bytes.Equal(before.text, row.text)
}

func (d *decoder) appendChanged(p []byte, r *relation) []byte {
	p = append(p, '[')
	first := true
	for i := range d.row {
		if d.differs(i) {
			p = appendName(p, r, i, first)
			first = false
		}
	}
	return append(p, ']')
}

func appendName(p []byte, r *relation, i int, first bool) []byte {
	if !first {
		p = append(p, ',')
	}
	return append(p, r.columns[i].quoted()...)
}

// finish appends what follows changed. row is the tuple that rowFlaws is of.
func (d *decoder) finish(p []byte, r *relation, ordinal int64, row []cell) []byte {
	p = append(p, `,"unchanged":[`...)
	for n, i := range d.rowFlaws.unchanged {
		p = appendName(p, r, i, n == 0)
	}
	p = append(p, ']')
	p = appendFlaws(p, r, &d.rowFlaws, row, `,"lossy":`, `,"oversize":`)
	p = appendFlaws(p, r, &d.beforeFlaws, d.before, `,"old_lossy":`, `,"old_oversize":`)
	return d.appendTx(p, ordinal)
}

func appendFlaws(p []byte, r *relation, f *flaws, cells []cell, lossy, oversize string) []byte {
	if len(f.lossy) > 0 {
		p = append(p, lossy...)
		start := len(p)
		for _, i := range f.lossy {
			p = appendBase64(append(p, r.columns[i].member...), cells[i].text)
		}
		p = closeObject(p, start)
	}
	if len(f.oversize) > 0 {
		p = append(p, oversize...)
		start := len(p)
		for _, i := range f.oversize {
			p = strconv.AppendInt(append(p, r.columns[i].member...), int64(len(cells[i].text)), 10)
		}
		p = closeObject(p, start)
	}
	return p
}

// appendTx appends the member tx, and ends data.
func (d *decoder) appendTx(p []byte, ordinal int64) []byte {
	p = append(p, d.txHead...)
	p = strconv.AppendInt(p, ordinal, 10)
	return append(p, d.txTail...)
}

// writeTx writes the parts of the member tx that its transaction's events share.
func (d *decoder) writeTx() {
	d.txHead = append(d.txHead[:0], `,"tx":{"xid":`...)
	d.txHead = strconv.AppendUint(d.txHead, uint64(d.xid), 10)
	d.txHead = append(d.txHead, `,"lsn":"`...)
	d.txHead = append(d.txHead, d.commit.String()...)
	d.txHead = append(d.txHead, `","ordinal":`...)
	d.txTail = append(d.txTail[:0], `,"committed_at":"`...)
	d.txTail = d.committedAt().AppendFormat(d.txTail, "2006-01-02T15:04:05.000000Z")
	d.txTail = append(d.txTail, '"')
	if len(d.context) > 0 {
		d.txTail = append(append(d.txTail, `,"context":`...), d.context...)
	}
	d.txTail = append(d.txTail, '}', '}')
}
