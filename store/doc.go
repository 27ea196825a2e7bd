// Package store is the durable log, the cursors over it and the rows around
// it: the only package that queries rowcall's schema.
//
// Capture appends events to the log; dispatch reads the log through cursors
// and settles outcomes. An append locks the one row log_head, so offsets are
// gapless and commit in order; append, checkpoint and head move in one
// transaction. The newest part of the log is held in a ring in memory behind
// Read, as a page cache. Every append and every settle checks the epoch of its
// owner in its own transaction: a process that lost its lease writes nothing.
package store
