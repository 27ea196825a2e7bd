// Package api is rowcall's HTTP interface: the only way in for people and
// programs, and the only place where a key is turned into a right.
//
// A handler decodes, validates, makes one call and encodes. Every route is
// registered by handle, which takes the scope that a key must have: a route
// without a scope does not compile. Errors leave as RFC 9457 problems through
// API.problemOf, which never repeats a value that was sent: it may be a secret.
//
// The OpenAPI document is made of the same declarations that the routes run on;
// openapi.json beside this file is its committed form.
package api
