package subscriptions

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

const (
	// maxGrowth is by how many bytes a transform may make data larger.
	maxGrowth = 256 << 10
	// maxRendered bounds the nesting of what a transform makes.
	maxRendered = maxExpressionDepth
)

// renderer writes values as JSON.
type renderer struct {
	dst  []byte
	most int // bytes
}

func (r *renderer) value(v ref.Val, depth int) error {
	if depth > maxRendered {
		return fmt.Errorf("the result is nested deeper than %d", maxRendered)
	}
	var err error
	switch v := v.(type) {
	case *kept:
		err = r.raw(v.raw)
	case *jsonObject:
		err = r.raw(v.raw)
	case *jsonArray:
		err = r.raw(v.raw)
	case types.Null:
		r.dst = append(r.dst, "null"...)
	case types.Bool:
		r.dst = strconv.AppendBool(r.dst, bool(v))
	case types.Int:
		r.dst = strconv.AppendInt(r.dst, int64(v), 10)
	case types.Uint:
		r.dst = strconv.AppendUint(r.dst, uint64(v), 10)
	case types.Double:
		r.double(float64(v))
	case types.String:
		r.string(string(v))
	case types.Bytes:
		r.string(base64.StdEncoding.EncodeToString(v))
	case types.Timestamp:
		r.string(v.UTC().Format(time.RFC3339Nano))
	case types.Duration:
		r.string(v.Duration.String())
	case traits.Mapper:
		err = r.object(v, depth)
	case traits.Lister:
		err = r.array(v, depth)
	default:
		err = fmt.Errorf("the result holds a value of type %s, which JSON has none for", v.Type().TypeName())
	}
	if err == nil && len(r.dst) > r.most {
		err = fmt.Errorf("the result is larger than data by more than %d KiB", maxGrowth>>10)
	}
	return err
}

// raw appends JSON as it came. The text must not be copied before it is known
// to fit: an expression can name a large one a thousand times.
func (r *renderer) raw(b []byte) error {
	if len(r.dst)+len(b) <= r.most {
		r.dst = append(r.dst, b...)
		return nil
	}
	return fmt.Errorf("the result is larger than data by more than %d KiB", maxGrowth>>10)
}

func (r *renderer) double(f float64) {
	switch {
	case math.IsNaN(f):
		r.dst = append(r.dst, `"NaN"`...)
	case math.IsInf(f, 1):
		r.dst = append(r.dst, `"Infinity"`...)
	case math.IsInf(f, -1):
		r.dst = append(r.dst, `"-Infinity"`...)
	default:
		b, err := json.Marshal(f)
		if err == nil {
			r.dst = append(r.dst, b...)
		}
	}
}

func (r *renderer) string(s string) {
	isPlain := utf8.ValidString(s) && !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == '"' || c == '\\' || c == '\u2028' || c == '\u2029' })
	if isPlain {
		r.dst = append(append(append(r.dst, '"'), s...), '"')
		return
	}
	if b, err := json.Marshal(s); err == nil { // it never fails on a string
		r.dst = append(r.dst, b...)
	}
}

func (r *renderer) object(m traits.Mapper, depth int) error {
	var names []string
	for it := m.Iterator(); it.HasNext() == types.True; {
		name, ok := it.Next().(types.String)
		if !ok {
			return fmt.Errorf("the result holds an object with a name that is no string")
		}
		names = append(names, string(name))
	}
	slices.Sort(names)
	r.dst = append(r.dst, '{')
	for i, name := range names {
		if i > 0 {
			r.dst = append(r.dst, ',')
		}
		r.string(name)
		r.dst = append(r.dst, ':')
		member, _ := m.Find(types.String(name))
		if err := r.value(member, depth+1); err != nil {
			return err
		}
	}
	r.dst = append(r.dst, '}')
	return nil
}

func (r *renderer) array(l traits.Lister, depth int) error {
	r.dst = append(r.dst, '[')
	first := true
	for it := l.Iterator(); it.HasNext() == types.True; first = false {
		if !first {
			r.dst = append(r.dst, ',')
		}
		if err := r.value(it.Next(), depth+1); err != nil {
			return err
		}
	}
	r.dst = append(r.dst, ']')
	return nil
}
