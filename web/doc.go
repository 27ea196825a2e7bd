// Package web will hold the admin console: pages drawn on the server, as a
// client of the API (api/client) and of nothing else of ours. This version has
// no console; the API and the command line do all that it will do.
package web
