package hooktest

import "context"

// T is the part of *testing.T that Start needs.
type T interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
	Context() context.Context
}

// Start runs a receiver for a test and closes it with the test.
func Start(t T, config Config) *Receiver {
	t.Helper()
	r, err := New(config)
	if err != nil {
		t.Fatalf("start receiver: %v", err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// WaitFor fails the test if done does not say so before the test's context
// ends; see Await.
func (r *Receiver) WaitFor(t T, done func(*Receiver) bool) {
	t.Helper()
	if err := r.Await(t.Context(), done); err != nil {
		t.Fatalf("%v", err)
	}
}
