package subscriptions

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds the nesting of a document. A Spec needs four.
const maxDepth = 64

// ParseSpec reads the JSON form of a Spec and writes the defaults in. Members
// that are absent or null stand for their defaults. It refuses what Validate
// refuses, and members that are unknown, given twice, or written in another
// case, which encoding/json would take. Members named in others are passed over
// where they stand at the top: the caller reads them.
//
// Its error is FieldErrors, with all faults at once.
func ParseSpec(data []byte, others ...string) (Spec, error) {
	return decode(defaults(), data, others)
}

// Patch returns the Spec after a JSON merge patch (RFC 7396) on its JSON form;
// s itself stays as it is. Null sets a member back to its default. Secrets that
// the patch does not name stay, unless the origin that gets them changes: then they
// are to be given again. Beyond that it refuses what ParseSpec refuses, and its
// error is of the same kind.
func (s Spec) Patch(mergePatch []byte) (Spec, error) {
	s.Normalize()
	return decode(s, mergePatch, nil)
}

// decode merges a document into s. A new Spec is a patch of the defaults.
func decode(s Spec, data []byte, others []string) (Spec, error) {
	document, err := parseTree(data)
	if err != nil {
		return Spec{}, FieldErrors{{Message: err.Error()}}
	}
	var e FieldErrors
	before := s.Endpoint // what it points to is not changed below
	base := defaults()
	m := merger{others: others, faults: &e}
	m.merge(document, reflect.ValueOf(&s).Elem(), reflect.ValueOf(base), "")
	for _, fault := range s.faults() {
		// What could not be read was left as it was; no more can be said of it.
		if !e.has(fault.Field) {
			e = append(e, fault)
		}
	}
	var secrets FieldErrors
	secrets.checkMoved(&before, &s.Endpoint, document)
	for _, fault := range secrets {
		if !e.has(fault.Field) {
			e = append(e, fault)
		}
	}
	return s, e.sorted()
}

// object is a JSON object with every member as it came. The other forms of a
// tree are []any, string, json.Number, bool and nil.
type object []member

type member struct {
	name  string
	value any
}

func parseTree(data []byte) (any, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("must be valid UTF-8")
	}
	var whole json.RawMessage
	if err := json.Unmarshal(data, &whole); err != nil {
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			return nil, fmt.Errorf("must be valid JSON; the fault is at byte %d", syntax.Offset)
		}
		return nil, errors.New("must be valid JSON")
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	return readTree(decoder, 0)
}

func readTree(decoder *json.Decoder, depth int) (any, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, errors.New("must be valid JSON")
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return token, nil
	}
	if depth++; depth > maxDepth {
		return nil, fmt.Errorf("must not be nested deeper than %d", maxDepth)
	}
	var members object
	items := []any{}
	for decoder.More() {
		var name string
		if delim == '{' {
			token, err := decoder.Token()
			if err != nil {
				return nil, errors.New("must be valid JSON")
			}
			name, _ = token.(string)
		}
		value, err := readTree(decoder, depth)
		if err != nil {
			return nil, err
		}
		if delim == '{' {
			members = append(members, member{name, value})
		} else {
			items = append(items, value)
		}
	}
	if _, err := decoder.Token(); err != nil { // the closing one
		return nil, errors.New("must be valid JSON")
	}
	if delim == '{' {
		return members, nil
	}
	return items, nil
}

// merger writes a tree into Go values by RFC 7396 and notes what does not fit.
type merger struct {
	others []string
	faults *FieldErrors
}

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

// merge writes value into dst; null writes base, the default of the same place.
// What does not fit leaves dst as it is.
func (m *merger) merge(value any, dst, base reflect.Value, path string) {
	if value == nil && path != "" {
		dst.Set(base)
		return
	}
	if reflect.PointerTo(dst.Type()).Implements(textUnmarshaler) {
		m.mergeText(value, dst, path)
		return
	}
	switch dst.Kind() {
	case reflect.Pointer:
		// A fresh one: the old is shared with the Spec that is being patched.
		fresh := reflect.New(dst.Type().Elem())
		if !dst.IsNil() {
			fresh.Elem().Set(dst.Elem())
		}
		m.merge(value, fresh.Elem(), reflect.Zero(dst.Type().Elem()), path)
		dst.Set(fresh)
	case reflect.Struct:
		m.mergeStruct(value, dst, base, path)
	case reflect.Map:
		m.mergeMap(value, dst, path)
	case reflect.Slice:
		m.mergeSlice(value, dst, path)
	default:
		m.mergeScalar(value, dst, path)
	}
}

func (m *merger) mergeStruct(value any, dst, base reflect.Value, path string) {
	members, ok := value.(object)
	if !ok {
		m.faults.add(path, "must be a JSON object")
		return
	}
	seen := map[string]bool{}
	for _, member := range members {
		at := memberPath(path, member.name)
		i, exact := findField(dst.Type(), member.name)
		switch {
		case seen[member.name]:
			m.faults.add(at, "is given more than once")
			continue
		case path == "" && slices.Contains(m.others, member.name):
			seen[member.name] = true
			continue
		case i < 0:
			m.faults.add(at, "is not known here; remove it")
		case !exact:
			m.faults.add(at, "must be written %q", jsonName(dst.Type().Field(i)))
		}
		seen[member.name] = true
		if i >= 0 {
			m.merge(member.value, dst.Field(i), base.Field(i), memberPath(path, jsonName(dst.Type().Field(i))))
		}
	}
}

// findField finds the member of a name, or -1; exact is false where only the
// case differs.
func findField(t reflect.Type, name string) (index int, exact bool) {
	index = -1
	for i := range t.NumField() {
		known := jsonName(t.Field(i))
		if known == name {
			return i, true
		}
		if strings.EqualFold(known, name) {
			index = i
		}
	}
	return index, false
}

func (m *merger) mergeMap(value any, dst reflect.Value, path string) {
	members, ok := value.(object)
	if !ok {
		m.faults.add(path, "must be a JSON object")
		return
	}
	current, _ := dst.Interface().(map[string]string)
	merged := maps.Clone(current)
	if merged == nil {
		merged = map[string]string{}
	}
	seen := map[string]bool{}
	for _, member := range members {
		at := memberPath(path, member.name)
		if seen[member.name] {
			m.faults.add(at, "is given more than once")
			continue
		}
		seen[member.name] = true
		switch text := member.value.(type) {
		case nil:
			delete(merged, member.name)
		case string:
			merged[member.name] = text
		default:
			m.faults.add(at, "must be a string")
		}
	}
	dst.Set(reflect.ValueOf(merged))
}

func (m *merger) mergeSlice(value any, dst reflect.Value, path string) {
	items, ok := value.([]any)
	if !ok {
		m.faults.add(path, "must be a JSON array")
		return
	}
	list := reflect.MakeSlice(dst.Type(), len(items), len(items))
	for i, item := range items {
		at := fmt.Sprintf("%s[%d]", path, i)
		if item == nil {
			m.faults.add(at, "must not be null")
			continue
		}
		m.merge(item, list.Index(i), reflect.Zero(dst.Type().Elem()), at)
	}
	dst.Set(list)
}

func (m *merger) mergeText(value any, dst reflect.Value, path string) {
	text, ok := value.(string)
	if !ok {
		m.faults.add(path, "must be a string")
		return
	}
	unmarshaler, _ := dst.Addr().Interface().(encoding.TextUnmarshaler)
	m.faults.check(path, unmarshaler.UnmarshalText([]byte(text)))
}

func (m *merger) mergeScalar(value any, dst reflect.Value, path string) {
	switch dst.Kind() {
	case reflect.String:
		if text, ok := value.(string); ok {
			dst.SetString(text)
		} else {
			m.faults.add(path, "must be a string")
		}
	case reflect.Bool:
		if truth, ok := value.(bool); ok {
			dst.SetBool(truth)
		} else {
			m.faults.add(path, "must be true or false")
		}
	case reflect.Int, reflect.Int64:
		number, _ := value.(json.Number)
		if n, err := strconv.ParseInt(number.String(), 10, dst.Type().Bits()); err == nil {
			dst.SetInt(n)
		} else {
			m.faults.add(path, "must be a whole number")
		}
	case reflect.Float64:
		number, _ := value.(json.Number)
		if f, err := number.Float64(); err == nil && !math.IsInf(f, 0) {
			dst.SetFloat(f)
		} else {
			m.faults.add(path, "must be a number")
		}
	default:
		panic("subscriptions: no way to read a member of kind " + dst.Kind().String())
	}
}
