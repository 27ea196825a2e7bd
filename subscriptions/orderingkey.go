package subscriptions

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"cel.dev/cel-go/common/types"
)

// maxOrderingKey is from how many bytes a key stands as its digest: keys are
// stored and indexed.
const maxOrderingKey = 512

// OrderingKey names the events that must wait for each other, in place of the
// row's key. It is safe for concurrent use.
type OrderingKey struct{ e *expression }

// OrderingKey makes the ordering key of a subscription as it is stored. A fault
// of its text is the error of every Key.
func (p *Programs) OrderingKey(source string) *OrderingKey {
	return &OrderingKey{p.expression(exprOrderingKey, source)}
}

// CompileOrderingKey judges an ordering key as CompileFilter judges a filter.
func CompileOrderingKey(source string, tables []TableTypes) (k *OrderingKey, warnings []string, err error) {
	k = NewPrograms().OrderingKey(source)
	if warnings, err = k.e.check(tables); err != nil {
		return nil, nil, err
	}
	return k, warnings, nil
}

// Key returns the key of an event. Values of different types may give the same
// one ("1" and 1), which only makes events wait; null is a key like any other.
// In a delete, data.row is what was sent of the row that is gone. A key of more
// than 512 bytes stands as its SHA-256. The error is an *EvalError, and the
// event then a barrier for its table, or that of ctx.
func (k *OrderingKey) Key(ctx context.Context, d *Decoded) (string, error) {
	return k.eval(ctx, activation{Decoded: d, kind: exprOrderingKey})
}

// Keys is Key, and the key of the row before an update where that is another
// one, as far as member old of the event says: it holds every column that
// changed under REPLICA IDENTITY FULL, else those of the identity alone.
func (k *OrderingKey) Keys(ctx context.Context, d *Decoded) (key, before string, err error) {
	if key, err = k.Key(ctx, d); err != nil || !d.hasPast() {
		return key, "", err
	}
	if before, err = k.eval(ctx, activation{Decoded: d, kind: exprOrderingKey, past: true}); err != nil {
		return "", "", err
	}
	if before == key {
		before = ""
	}
	return key, before, nil
}

func (k *OrderingKey) eval(ctx context.Context, a activation) (string, error) {
	p, err := k.e.program(a.table)
	if err != nil {
		return "", err
	}
	v, err := p.evalAs(ctx, a)
	if err != nil {
		return "", err
	}
	var text string
	switch v := v.(type) {
	case types.String:
		text = string(v)
	case types.Int:
		text = strconv.FormatInt(int64(v), 10)
	case types.Uint:
		text = strconv.FormatUint(uint64(v), 10)
	case types.Bool:
		text = strconv.FormatBool(bool(v))
	case types.Double:
		text = strconv.FormatFloat(float64(v), 'g', -1, 64)
	case types.Timestamp:
		text = v.UTC().Format(time.RFC3339Nano)
	case types.Null:
		text = "null"
	default:
		return "", &EvalError{Field: string(exprOrderingKey), Err: fmt.Errorf("it must be a string, a number, a bool or a time, and is %s", v.Type().TypeName())}
	}
	if len(text) > maxOrderingKey {
		digest := sha256.Sum256([]byte(text))
		return "sha256-" + hex.EncodeToString(digest[:]), nil
	}
	return text, nil
}
