//go:build !linux

package subscriptions

import "time"

// Took is the time that do takes: only Linux says what a thread has spent.
func Took(do func()) time.Duration {
	began := time.Now()
	do()
	return time.Since(began)
}
