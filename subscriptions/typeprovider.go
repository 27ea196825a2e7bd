package subscriptions

import (
	"fmt"
	"slices"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
)

const (
	dataType = "rowcall.Data" // data of a row event
	rowType  = "rowcall.Row"  // row, old and key of one
)

// typeProvider tells CEL what the events of one table look like.
type typeProvider struct {
	types.Provider
	table *TableTypes
	data  *cel.Type // of the variable data
}

func newTypeProvider(others types.Provider, table *TableTypes) *typeProvider {
	p := &typeProvider{Provider: others, table: table, data: cel.DynType}
	if table != nil {
		p.data = cel.ObjectType(dataType)
	}
	return p
}

// FindStructType is part of types.Provider, as are the two below.
func (p *typeProvider) FindStructType(name string) (*types.Type, bool) {
	if p.table != nil && (name == dataType || name == rowType) {
		return types.NewTypeTypeWithParam(types.NewObjectType(name)), true
	}
	return p.Provider.FindStructType(name)
}

var dataMembers = []string{
	"op", "schema", "table", "key", "row", "old", "changed", "unchanged", "lossy", "oversize", "old_lossy", "old_oversize", "tx",
}

func (p *typeProvider) FindStructFieldNames(name string) ([]string, bool) {
	switch {
	case p.table != nil && name == dataType:
		return dataMembers, true
	case p.table != nil && name == rowType:
		names := make([]string, len(p.table.Columns))
		for i, c := range p.table.Columns {
			names[i] = c.Name
		}
		return names, true
	}
	return p.Provider.FindStructFieldNames(name)
}

func (p *typeProvider) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	switch {
	case p.table != nil && name == dataType:
		if !slices.Contains(dataMembers, field) {
			return nil, false
		}
		return fieldOf(field, dataMemberType(field)), true
	case p.table != nil && name == rowType:
		c, ok := p.table.column(field)
		if !ok {
			// Another table of the same subscription may have it: has() is false
			// here, and to read it is an error when it happens.
			return fieldOf(field, cel.DynType), true
		}
		return fieldOf(field, columnType(c)), true
	}
	return p.Provider.FindStructFieldType(name, field)
}

func dataMemberType(field string) *cel.Type {
	switch field {
	case "op", "schema", "table":
		return cel.StringType
	case "key", "row", "old":
		return cel.ObjectType(rowType)
	case "changed", "unchanged":
		return cel.ListType(cel.StringType)
	default:
		return cel.DynType
	}
}

// columnType lets every column be compared with null, save arrays, for which
// CEL has no such type.
func columnType(c Column) *cel.Type {
	t := cel.StringType
	switch c.Class {
	case ClassInt:
		t = cel.IntType
	case ClassDouble:
		t = cel.DoubleType
	case ClassBool:
		t = cel.BoolType
	case ClassTimestamp:
		t = cel.TimestampType
	case ClassJSON:
		t = cel.DynType
	case ClassString:
	}
	switch {
	case c.List:
		return cel.ListType(t)
	case c.Class == ClassJSON || c.Class == ClassTimestamp: // which null is assignable to
		return t
	}
	return cel.NullableType(t)
}

func fieldOf(name string, t *cel.Type) *types.FieldType {
	return &types.FieldType{
		Type: t,
		IsSet: func(target any) bool {
			o, ok := target.(*jsonObject)
			if !ok {
				return false
			}
			v := o.find(name)
			// A list of names that is not known is null in the body.
			return v != nil && !(o.kind == objectData && name == "changed" && v == types.NullValue)
		},
		GetFrom: func(target any) (any, error) {
			o, ok := target.(*jsonObject)
			if !ok {
				return nil, fmt.Errorf("no such key: %s, of what is null", name)
			}
			v := o.find(name)
			switch {
			case v == nil:
				return nil, fmt.Errorf("no such key: %s", name)
			case types.IsError(v):
				return nil, v.(*types.Err)
			case o.kind == objectData && name == "changed" && v == types.NullValue && !o.keep:
				return nil, fmt.Errorf("data.changed is not known for this event: only updates of tables with REPLICA IDENTITY FULL have it; test it with has(data.changed)")
			}
			return v, nil
		},
	}
}
