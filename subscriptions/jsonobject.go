package subscriptions

import (
	"fmt"
	"reflect"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// maxMembers bounds the members of one object.
const maxMembers = 20_000

// objectKind says how the members of an object are read.
type objectKind int8

const (
	objectDocument objectKind = iota // by the JSON itself
	objectRoot                       // likewise; data itself, of any length
	objectData                       // data of a row event
	objectRow                        // by the columns of the table
)

// jsonObject is a JSON object that is read when somebody asks. Checked expressions
// reach its members as fields, others as a map.
type jsonObject struct {
	d     *Decoded
	kind  objectKind
	raw   []byte
	keep  bool        // see keep.go
	gone  bool        // member row is member old
	past  bool        // member row is the row before the update
	large bool        // only to be handed on: see opened
	under *jsonObject // its members come before these: what the row was before
	index *index      // shared by all views of the object
}

// index is the members of an object in their order. It is guarded by d.mu.
type index struct {
	parsed bool
	err    error
	names  map[string]int // of objects with more than fewMembers
	list   []element
}

// fewMembers is up to how many members a search is quicker than a map.
const fewMembers = 32

// place is where the member of a name stands, -1 where there is none. The last
// one of a name counts, as in jsonb.
func (x *index) place(name string) int {
	if x.names != nil {
		if i, ok := x.names[name]; ok {
			return i
		}
		return -1
	}
	for i := len(x.list) - 1; i >= 0; i-- {
		if string(x.list[i].name) == name {
			return i
		}
	}
	return -1
}

type element struct {
	name  []byte
	raw   []byte
	value ref.Val // nil until asked for
}

// tooMany reports whether an object has more than maxMembers. It looks only where
// that many have room.
func tooMany(raw []byte) bool {
	const shortest = len(`"":0,`)
	return len(raw) > shortest*maxMembers && members(raw) > maxMembers
}

// find returns the member of a name, nil where there is none.
func (o *jsonObject) find(name string) ref.Val {
	if o.gone && name == "row" {
		name = "old"
	}
	if o.under != nil {
		if v := o.under.find(name); v != nil {
			return v
		}
	}
	if o.past && name == "row" {
		return o.rowBefore()
	}
	o.d.mu.Lock()
	defer o.d.mu.Unlock()
	if err := o.parse(); err != nil {
		return err
	}
	i := o.index.place(name)
	if i < 0 {
		return nil
	}
	return o.value(&o.index.list[i])
}

// rowBefore is the row as it was before the update, as far as member old says.
func (o *jsonObject) rowBefore() ref.Val {
	plain := *o
	plain.past = false
	row, old := plain.find("row"), plain.find("old")
	r, isRow := row.(*jsonObject)
	b, isOld := old.(*jsonObject)
	if !isRow || !isOld {
		return row
	}
	was := *r
	was.under = b
	return &was
}

// value reads a member. d.mu is held.
func (o *jsonObject) value(e *element) ref.Val {
	if e.value == nil {
		e.value = o.read(string(e.name), e.raw)
	}
	if o.keep {
		return keepValue(e.value, e.raw)
	}
	return opened(e.value)
}

func (o *jsonObject) read(name string, raw []byte) ref.Val {
	switch {
	case o.kind == objectRow && o.d.table != nil:
		if c, ok := o.d.table.column(name); ok {
			return columnValue(o.d, c, raw, 0)
		}
	case o.kind == objectData && (name == "row" || name == "old" || name == "key"):
		return plainValue(o.d, objectRow, raw)
	}
	return plainValue(o.d, objectDocument, raw)
}

// parse finds the members. Its error is a CEL value. d.mu is held.
func (o *jsonObject) parse() ref.Val {
	x := o.index
	if !x.parsed {
		x.parsed = true
		if o.large {
			x.err = errTooLarge
		} else {
			x.err = x.fill(o)
		}
	}
	if x.err != nil {
		return types.WrapErr(x.err)
	}
	return nil
}

func (x *index) fill(o *jsonObject) error {
	few := 16
	if o.kind == objectRow && o.d.table != nil {
		few = len(o.d.table.Columns)
	}
	x.list = make([]element, 0, min(few, 1+len(o.raw)/6))
	return eachMember(o.raw, func(name, raw []byte) error {
		if len(x.list) == fewMembers {
			x.names = make(map[string]int, 4*fewMembers)
			for i := range x.list {
				x.names[string(x.list[i].name)] = i
			}
		}
		if x.names != nil {
			if i, ok := x.names[string(name)]; ok {
				x.list[i].raw = raw
				return nil
			}
			x.names[string(name)] = len(x.list)
		} else if i := x.place(string(name)); i >= 0 {
			x.list[i].raw = raw
			return nil
		}
		x.list = append(x.list, element{name: name, raw: raw})
		return nil
	})
}

// Find, Get, Contains, Iterator and Size make an object a map.
func (o *jsonObject) Find(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if !ok {
		return nil, false
	}
	v := o.find(string(name))
	return v, v != nil && !types.IsError(v)
}

func (o *jsonObject) Get(key ref.Val) ref.Val {
	name, ok := key.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(key)
	}
	if v := o.find(string(name)); v != nil {
		return v
	}
	return types.NewErr("no such key: %s", string(name))
}

func (o *jsonObject) Contains(key ref.Val) ref.Val {
	v, ok := o.Find(key)
	if v != nil && !ok {
		return v
	}
	return types.Bool(ok)
}

func (o *jsonObject) Size() ref.Val {
	o.d.mu.Lock()
	defer o.d.mu.Unlock()
	if err := o.parse(); err != nil {
		return types.IntZero
	}
	return types.Int(len(o.index.list))
}

func (o *jsonObject) Iterator() traits.Iterator {
	o.d.mu.Lock()
	defer o.d.mu.Unlock()
	var names []string
	if o.parse() == nil {
		for i := range o.index.list {
			names = append(names, string(o.index.list[i].name))
		}
	}
	return types.NewStringList(types.DefaultTypeAdapter, names).Iterator()
}

func (o *jsonObject) Equal(other ref.Val) ref.Val {
	mapper, ok := unkept(other).(traits.Mapper)
	if !ok {
		return types.False
	}
	if o.Size() != mapper.Size() {
		return types.False
	}
	if tooDeep(o) || tooDeep(mapper) {
		return types.WrapErr(errTooLarge)
	}
	plain := o.view(false)
	for it := plain.Iterator(); it.HasNext() == types.True; {
		name := it.Next()
		ours := plain.Get(name)
		theirs, found := mapper.Find(name)
		switch {
		case types.IsError(ours):
			return ours
		case types.IsError(theirs):
			return theirs
		case !found:
			return types.False
		}
		if same := types.Equal(ours, theirs); same != types.True {
			return same
		}
	}
	return types.True
}

// tooDeep reports whether a value is too much work to be compared.
func tooDeep(v any) bool {
	const most = maxNested * maxDocument
	o, ok := v.(*jsonObject)
	return ok && len(o.raw) > maxDocument/maxNested && nestedWork(o.raw, most) > most
}

func (o *jsonObject) Type() ref.Type    { return types.MapType }
func (o *jsonObject) Value() any        { return o }
func (o *jsonObject) IsZeroValue() bool { return o.Size() == types.IntZero }

func (o *jsonObject) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("an object is no %v", t)
}

func (o *jsonObject) ConvertToType(t ref.Type) ref.Val {
	switch t {
	case types.MapType:
		return o
	case types.TypeType:
		return types.MapType
	}
	return types.NewErr("type conversion error from '%s' to '%s'", types.MapType, t)
}

func (o *jsonObject) view(keep bool) *jsonObject {
	if o.keep == keep {
		return o
	}
	other := *o
	other.keep = keep
	return &other
}
