package subscriptions

import (
	"sync"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"
)

// Attributes are what expressions see of an event beside its data.
type Attributes struct {
	Type    string
	Subject string // empty where there is none
	Source  string
	Time    time.Time
	Key     string // partitionkey
}

// Decoded is one event as expressions see it. It parses no more than they ask
// for, and nothing twice, however many of them look at it: make one per event
// and give it to all. It is safe for concurrent use.
type Decoded struct {
	attributes Attributes
	table      *TableTypes
	size       int

	mu   sync.Mutex // guards what the values below it have parsed
	data ref.Val
}

// Decode wraps an event; data is kept and must not change. table is the version
// of the table that the event was made under, nil where it is not known or the
// event is none of a row: its values then have the types of their JSON.
func Decode(a Attributes, data []byte, table *TableTypes) *Decoded {
	d := &Decoded{attributes: a, table: table, size: len(data)}
	kind := objectRoot
	if table != nil {
		kind = objectData
	}
	d.data = plainValue(d, kind, data)
	return d
}

// activation is the variables of one evaluation.
type activation struct {
	*Decoded
	kind exprKind
	past bool // member row is the row before the update
}

// Parent makes it an interpreter.Activation; there is none.
func (activation) Parent() interpreter.Activation { return nil }

func (a activation) ResolveName(name string) (any, bool) {
	switch name {
	case varData:
		return a.root(), true
	case "type":
		return types.String(a.attributes.Type), true
	case "subject":
		return types.String(a.attributes.Subject), true
	case "source":
		return types.String(a.attributes.Source), true
	case "time":
		return types.Timestamp{Time: a.attributes.Time}, true
	case "key":
		return types.String(a.attributes.Key), true
	}
	return nil, false
}

// hasPast reports whether the event is an update that says something of the row
// before it.
func (d *Decoded) hasPast() bool {
	o, ok := d.data.(*jsonObject)
	if !ok || o.kind != objectData || o.find("op") != types.String("update") {
		return false
	}
	old, ok := o.find("old").(*jsonObject)
	return ok && old.Size() != types.IntZero
}

// root is the variable data: for a transform in the view that renders as it
// came; for an ordering key with the row that a delete took.
func (a activation) root() ref.Val {
	switch o, ok := a.data.(*jsonObject); {
	case a.kind == exprTransform:
		return keepValue(a.data, nil)
	case ok && a.past:
		other := *o
		other.past = true
		return &other
	case ok && a.kind == exprOrderingKey:
		if row, old := o.find("row"), o.find("old"); row == types.NullValue && old != nil && old != types.NullValue {
			other := *o
			other.gone = true
			return &other
		}
	}
	return opened(a.data)
}
