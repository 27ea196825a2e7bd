// Package client is the typed Go client of rowcall's HTTP API: the command line
// uses it over the network, the console in process through an http.RoundTripper
// onto the API's handler. It imports nothing else of rowcall; its types are the
// JSON of the contract.
package client
