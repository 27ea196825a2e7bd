package dispatch

// deque is a double-ended queue of entries in a ring that grows. The zero value
// is empty.
type deque struct {
	ring []*entry
	head int
	n    int
}

func (d *deque) len() int { return d.n }

// at is the entry i places behind the first.
func (d *deque) at(i int) *entry { return d.ring[(d.head+i)&(len(d.ring)-1)] }

// set puts another entry in the place of one.
func (d *deque) set(i int, e *entry) { d.ring[(d.head+i)&(len(d.ring)-1)] = e }

// first is the first entry, nil when there is none.
func (d *deque) first() *entry {
	if d.n == 0 {
		return nil
	}
	return d.ring[d.head]
}

func (d *deque) push(e *entry) {
	d.grow()
	d.ring[(d.head+d.n)&(len(d.ring)-1)] = e
	d.n++
}

func (d *deque) pushFront(e *entry) {
	d.grow()
	d.head = (d.head - 1) & (len(d.ring) - 1)
	d.ring[d.head] = e
	d.n++
}

// pop takes the first entry, nil when there is none.
func (d *deque) pop() *entry {
	if d.n == 0 {
		return nil
	}
	e := d.ring[d.head]
	d.ring[d.head] = nil
	d.head = (d.head + 1) & (len(d.ring) - 1)
	d.n--
	return e
}

func (d *deque) grow() {
	if d.n < len(d.ring) {
		return
	}
	ring := make([]*entry, max(16, 2*len(d.ring)))
	for i := range d.n {
		ring[i] = d.at(i)
	}
	d.ring, d.head = ring, 0
}
