// Package dispatch delivers the log to endpoints: lanes read events through
// their cursors, POST them, and settle what became of them in group commits.
package dispatch
