package postgres

import (
	"fmt"
	"maps"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"
)

// formKind is a way to write a value as JSON.
type formKind int8

const (
	formText        formKind = iota // string, as the server prints it
	formBool                        // true, false
	formNumber                      // number with all digits; what JSON has no number for as a string
	formJSON                        // as it is
	formBytea                       // base64
	formTimestamp                   // ISO 8601 with T
	formTimestamptz                 // RFC 3339 in UTC
	formArray                       // array of element
)

// form says how the values of a type are written.
type form struct {
	kind    formKind
	delim   byte  // of an array: what stands between its elements
	element *form // of an array
}

// builtinForm is the form of a type whose OID is fixed in every server; false
// for a type that has to be looked up.
func builtinForm(oid uint32) (form, bool) {
	if kind, ok := scalarForm(oid); ok {
		return form{kind: kind}, true
	}
	element, delim := arrayElement(oid)
	if element == 0 {
		return form{}, false
	}
	kind, _ := scalarForm(element)
	return form{kind: formArray, delim: delim, element: &form{kind: kind}}, true
}

// OIDs that pgtype does not name.
const (
	int2vectorOID, oidvectorOID                         = 22, 30
	regprocOID, regprocedureOID, regoperOID             = 24, 2202, 2203
	regoperatorOID, regclassOID, regtypeOID, regroleOID = 2204, 2205, 2206, 4096
	regnamespaceOID, regconfigOID, regdictionaryOID     = 4089, 3734, 3769
	regcollationOID                                     = 4191
	moneyOID, refcursorOID, pgLSNOID                    = 790, 1790, 3220
	gtsvectorOID, tsqueryOID                            = 3642, 3615
	txidSnapshotOID, pgSnapshotOID                      = 2970, 5038
	int2vectorArrayOID, oidvectorArrayOID               = 1006, 1013
	moneyArrayOID, refcursorArrayOID, macaddr8ArrayOID  = 791, 2201, 775
	gtsvectorArrayOID, tsqueryArrayOID, pgLSNArrayOID   = 3644, 3645, 3221
	txidSnapshotArrayOID, pgSnapshotArrayOID            = 2949, 5039
	regprocArrayOID, regprocedureArrayOID               = 1008, 2207
	regoperArrayOID, regoperatorArrayOID                = 2208, 2209
	regclassArrayOID, regtypeArrayOID, regroleArrayOID  = 2210, 2211, 4097
	regnamespaceArrayOID, regconfigArrayOID             = 4090, 3735
	regdictionaryArrayOID, regcollationArrayOID         = 3770, 4192
)

func scalarForm(oid uint32) (formKind, bool) {
	switch oid {
	case pgtype.BoolOID:
		return formBool, true
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.OIDOID, pgtype.Float4OID, pgtype.Float8OID:
		return formNumber, true
	case pgtype.JSONOID, pgtype.JSONBOID:
		return formJSON, true
	case pgtype.ByteaOID:
		return formBytea, true
	case pgtype.TimestampOID:
		return formTimestamp, true
	case pgtype.TimestamptzOID:
		return formTimestamptz, true
	case pgtype.TextOID, pgtype.VarcharOID, pgtype.BPCharOID, pgtype.QCharOID, pgtype.NameOID, pgtype.UnknownOID,
		pgtype.NumericOID, moneyOID, pgtype.UUIDOID, pgtype.XMLOID, pgtype.JSONPathOID,
		pgtype.DateOID, pgtype.TimeOID, pgtype.TimetzOID, pgtype.IntervalOID,
		pgtype.InetOID, pgtype.CIDROID, pgtype.MacaddrOID, pgtype.Macaddr8OID,
		pgtype.PointOID, pgtype.LsegOID, pgtype.PathOID, pgtype.BoxOID, pgtype.PolygonOID, pgtype.LineOID, pgtype.CircleOID,
		pgtype.BitOID, pgtype.VarbitOID, pgtype.TSVectorOID, tsqueryOID, gtsvectorOID,
		pgtype.TIDOID, pgtype.XIDOID, pgtype.CIDOID, pgtype.XID8OID, pgtype.ACLItemOID, refcursorOID, pgLSNOID,
		pgtype.Int4rangeOID, pgtype.Int8rangeOID, pgtype.NumrangeOID, pgtype.TsrangeOID, pgtype.TstzrangeOID, pgtype.DaterangeOID,
		pgtype.Int4multirangeOID, pgtype.Int8multirangeOID, pgtype.NummultirangeOID,
		pgtype.TsmultirangeOID, pgtype.TstzmultirangeOID, pgtype.DatemultirangeOID,
		int2vectorOID, oidvectorOID, txidSnapshotOID, pgSnapshotOID, regprocOID, regprocedureOID, regoperOID, regoperatorOID,
		regclassOID, regtypeOID, regroleOID, regnamespaceOID, regconfigOID, regdictionaryOID, regcollationOID:
		return formText, true
	default:
		return formText, false
	}
}

// arrayElement is the type of a built-in array's elements and their
// delimiter; 0 for what is no built-in array.
func arrayElement(oid uint32) (element uint32, delim byte) {
	switch oid {
	case pgtype.BoxArrayOID:
		return pgtype.BoxOID, ';'
	case pgtype.BoolArrayOID:
		return pgtype.BoolOID, ','
	case pgtype.Int2ArrayOID, pgtype.Int4ArrayOID, pgtype.Int8ArrayOID, pgtype.OIDArrayOID,
		pgtype.Float4ArrayOID, pgtype.Float8ArrayOID:
		return pgtype.Int8OID, ',' // they all have its form
	case pgtype.JSONArrayOID, pgtype.JSONBArrayOID:
		return pgtype.JSONOID, ','
	case pgtype.ByteaArrayOID:
		return pgtype.ByteaOID, ','
	case pgtype.TimestampArrayOID:
		return pgtype.TimestampOID, ','
	case pgtype.TimestamptzArrayOID:
		return pgtype.TimestamptzOID, ','
	case pgtype.TextArrayOID, pgtype.VarcharArrayOID, pgtype.BPCharArrayOID, pgtype.QCharArrayOID, pgtype.NameArrayOID,
		pgtype.NumericArrayOID, moneyArrayOID, pgtype.UUIDArrayOID, pgtype.XMLArrayOID, pgtype.JSONPathArrayOID,
		pgtype.DateArrayOID, pgtype.TimeArrayOID, pgtype.TimetzArrayOID, pgtype.IntervalArrayOID,
		pgtype.InetArrayOID, pgtype.CIDRArrayOID, pgtype.MacaddrArrayOID, macaddr8ArrayOID,
		pgtype.PointArrayOID, pgtype.LsegArrayOID, pgtype.PathArrayOID, pgtype.PolygonArrayOID, pgtype.LineArrayOID, pgtype.CircleArrayOID,
		pgtype.BitArrayOID, pgtype.VarbitArrayOID, pgtype.TSVectorArrayOID, tsqueryArrayOID, gtsvectorArrayOID,
		pgtype.TIDArrayOID, pgtype.XIDArrayOID, pgtype.CIDArrayOID, pgtype.XID8ArrayOID, pgtype.ACLItemArrayOID, refcursorArrayOID, pgLSNArrayOID,
		pgtype.Int4rangeArrayOID, pgtype.Int8rangeArrayOID, pgtype.NumrangeArrayOID,
		pgtype.TsrangeArrayOID, pgtype.TstzrangeArrayOID, pgtype.DaterangeArrayOID,
		pgtype.Int4multirangeArrayOID, pgtype.Int8multirangeArrayOID, pgtype.NummultirangeArrayOID,
		pgtype.TsmultirangeArrayOID, pgtype.TstzmultirangeArrayOID, pgtype.DatemultirangeArrayOID,
		int2vectorArrayOID, oidvectorArrayOID, txidSnapshotArrayOID, pgSnapshotArrayOID,
		regprocArrayOID, regprocedureArrayOID, regoperArrayOID, regoperatorArrayOID, regclassArrayOID, regtypeArrayOID,
		regroleArrayOID, regnamespaceArrayOID, regconfigArrayOID, regdictionaryArrayOID, regcollationArrayOID:
		return pgtype.TextOID, ','
	default:
		return 0, 0
	}
}

// maxTypeDepth bounds domains over domains and arrays of them.
const maxTypeDepth = 8

// names are the names of built-in types. Those that it lacks have text forms.
var names = pgtype.NewMap()

// typeName is a type as subscriptions.ColumnOf reads it: a domain as its base,
// an array as its elements' type and "[]".
func (c *catalogue) typeName(oid uint32) string {
	suffix := ""
	for range maxTypeDepth {
		if _, ok := builtinForm(oid); ok {
			known, ok := names.TypeForOID(oid)
			element, _ := arrayElement(oid)
			switch {
			case element != 0 && ok:
				return strings.TrimPrefix(known.Name, "_") + "[]"
			case element != 0:
				return "text[]"
			case ok:
				return known.Name + suffix
			}
			return "text" + suffix
		}
		switch info := c.known[oid]; {
		case info.kind == 'd' && info.base != 0:
			oid = info.base
		case info.kind == 'b' && info.element != 0:
			oid, suffix = info.element, "[]"
		case info.name != "":
			return info.name + suffix
		default:
			return "text" + suffix
		}
	}
	return "text" + suffix
}

// catalogue knows the types that were looked up. What the catalogue says of an
// OID does not change while the type exists, so answers are kept; misses are
// not, since a relation may be older than its types' commit is visible.
type catalogue struct {
	lookUp func(oids []uint32) (map[uint32]typeInfo, error)
	known  map[uint32]typeInfo
}

// learn looks up those of the types, and the types under them, that are not
// known yet.
func (c *catalogue) learn(oids []uint32) error {
	if c.lookUp == nil {
		return nil
	}
	asked := make(map[uint32]bool)
	for range maxTypeDepth {
		var missing []uint32
		want := func(oid uint32) {
			if _, ok := c.known[oid]; ok || oid == 0 || asked[oid] {
				return
			}
			if _, ok := builtinForm(oid); !ok {
				asked[oid] = true
				missing = append(missing, oid)
			}
		}
		for _, oid := range oids {
			info := c.known[oid]
			want(oid)
			want(info.base)
			want(info.element)
		}
		if len(missing) == 0 {
			return nil
		}
		found, err := c.lookUp(missing)
		if err != nil {
			return fmt.Errorf("look up types: %w", err)
		}
		maps.Copy(c.known, found)
		oids = missing
	}
	return nil
}

// form is how a type's values are written; text for a type that is not known.
func (c *catalogue) form(oid uint32) form { return c.formAt(oid, 0) }

func (c *catalogue) formAt(oid uint32, depth int) form {
	if f, ok := builtinForm(oid); ok {
		return f
	}
	info := c.known[oid]
	switch {
	case depth == maxTypeDepth:
		return form{}
	case info.kind == 'd' && info.base != 0:
		return c.formAt(info.base, depth+1)
	case info.kind == 'b' && info.element != 0:
		element := c.formAt(info.element, depth+1)
		delim := info.delim
		if delim == 0 {
			delim = ','
		}
		return form{kind: formArray, delim: delim, element: &element}
	default:
		return form{}
	}
}
