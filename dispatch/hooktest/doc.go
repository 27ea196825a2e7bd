// Package hooktest is an endpoint for tests, demonstrations and measurements:
// a real HTTP server on the loopback that verifies signatures, records what it
// gets, answers by a script, and checks what rowcall promises about duplicates
// and order. It does not import testing.
package hooktest
