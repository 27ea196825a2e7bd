package subscriptions

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// maxFaults bounds how many faults one answer holds.
const maxFaults = 100

// FieldError is one fault of a Spec.
type FieldError struct {
	Field   string // JSON path such as "endpoint.url" or "events[2]"; empty for the whole
	Message string // what is wrong and the remedy; never a value that may be secret
}

func (e FieldError) Error() string {
	if e.Field == "" {
		return "subscription " + e.Message
	}
	return e.Field + " " + e.Message
}

// FieldErrors are all faults of a Spec, at least one and at most 100, in the
// order in which the members stand in the contract; members that it does not
// know come last in theirs.
type FieldErrors []FieldError

func (e FieldErrors) Error() string {
	parts := make([]string, len(e))
	for i, fault := range e {
		parts[i] = fault.Error()
	}
	return strings.Join(parts, "; ")
}

func (e *FieldErrors) add(field, format string, args ...any) {
	*e = append(*e, FieldError{Field: field, Message: fmt.Sprintf(format, args...)})
}

// check adds err as a fault of the field, if there is one.
func (e *FieldErrors) check(field string, err error) {
	if err != nil {
		e.add(field, "%s", err.Error())
	}
}

// has reports whether the field itself or one that it is part of has a fault.
func (e FieldErrors) has(field string) bool {
	return slices.ContainsFunc(e, func(fault FieldError) bool {
		rest, ok := strings.CutPrefix(field, fault.Field)
		return ok && (rest == "" || fault.Field == "" || rest[0] == '.' || rest[0] == '[')
	})
}

// sorted returns the faults in document order, or nil if there are none. Its
// type is error so that no caller holds a nil slice in an error.
func (e FieldErrors) sorted() error {
	if len(e) == 0 {
		return nil
	}
	places := fieldPlaces(nil, reflect.TypeFor[Spec](), "")
	slices.SortStableFunc(e, func(a, b FieldError) int {
		return cmp.Or(
			cmp.Compare(placeOf(a.Field, places), placeOf(b.Field, places)),
			cmp.Compare(indexOf(a.Field), indexOf(b.Field)),
		)
	})
	return e[:min(len(e), maxFaults)]
}

// fieldPlaces lists the paths of all members in the order of the contract.
func fieldPlaces(places []string, t reflect.Type, prefix string) []string {
	for i := range t.NumField() {
		field := t.Field(i)
		path := prefix + jsonName(field)
		places = append(places, path)
		inner := field.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct && inner != reflect.TypeFor[Secret]() {
			places = fieldPlaces(places, inner, path+".")
		}
	}
	return places
}

// placeOf finds the path, or the nearest one above it.
func placeOf(path string, places []string) int {
	for path != "" {
		if i := slices.Index(places, path); i >= 0 {
			return i
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return len(places)
}

// indexOf is the number in "events[2]", so that [10] comes after [9].
func indexOf(path string) int {
	_, rest, _ := strings.Cut(path, "[")
	number, _, _ := strings.Cut(rest, "]")
	n, err := strconv.Atoi(number)
	if err != nil {
		return -1
	}
	return n
}

func jsonName(field reflect.StructField) string {
	name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
	return name
}

// memberPath is the path of a member of an object. Names that are not plain are
// quoted and cut, since anybody may write anything there.
func memberPath(object, name string) string {
	const longest = 64
	isPlain := func(r rune) bool {
		return r < 0x80 && (plain[r] || r == '.' || r == '/')
	}
	if name == "" || len(name) > longest || strings.ContainsFunc(name, func(r rune) bool { return !isPlain(r) }) {
		return object + "[" + strconv.QuoteToASCII(name[:min(len(name), longest)]) + "]"
	}
	if object == "" {
		return name
	}
	return object + "." + name
}
