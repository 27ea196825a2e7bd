package store

import "errors"

var (
	// ErrFenced: another instance, or a later life of this one, has taken over
	// what the call wrote for. Stop, claim again.
	ErrFenced = errors.New("fenced: another owner has taken over")
	// ErrNotFound: no such row.
	ErrNotFound = errors.New("not found")
	// ErrConflict: a row like it exists, or the row is not in the state that the call leaves.
	ErrConflict = errors.New("conflict")
	// ErrSchema: the schema is not the one this binary was made for.
	ErrSchema = errors.New("schema version")
	// ErrKey: ROWCALL_SECRET_KEY is not the key that the stored secrets were sealed with.
	ErrKey = errors.New("wrong secret key")
)

// Unavailable reports whether the store could not be reached, was shutting
// down, read-only, out of space or out of connections: trying again later may
// succeed, and nothing in the call was at fault.
func Unavailable(err error) bool { panic("unwritten") }
