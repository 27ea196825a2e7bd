package api

import (
	"net/http"
	"time"
)

// NewServer is an http.Server for the API with every limit set that Go leaves
// open: a client that is slow, silent or verbose holds a connection for a
// bounded time, and no memory. Wrap its listener with LimitConnections.
func NewServer(addr string, handler http.Handler) *http.Server {
	return &http.Server{
		Addr:              addr,
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
	}
}
