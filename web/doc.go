// Package web is the console: pages drawn on the server, for whoever is woken at
// 3 a.m. It is a client of the API (api/client, in process) and of nothing else of
// ours, so that whatever a person can do, a program can, and rights, validation
// and records are the API's. DESIGN.md says how it is made.
package web
