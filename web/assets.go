package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"net/http"
	"path"
	"strings"

	"github.com/go-chi/chi/v5"
)

//go:embed assets/*
var assetFiles embed.FS

// assets are the files that pages load. Their names carry a hash of what is in
// them, so that a browser keeps them for ever and never has a stale one.
type assets struct {
	names map[string]string // console.css → console.0123abcd.css
	files map[string][]byte // by hashed name
}

func newAssets() (*assets, error) {
	a := &assets{names: map[string]string{}, files: map[string][]byte{}}
	entries, err := assetFiles.ReadDir("assets")
	if err != nil {
		return nil, fmt.Errorf("read assets: %w", err)
	}
	for _, entry := range entries {
		content, err := assetFiles.ReadFile("assets/" + entry.Name())
		if err != nil {
			return nil, fmt.Errorf("read assets: %w", err)
		}
		sum := sha256.Sum256(content)
		ext := path.Ext(entry.Name())
		hashed := strings.TrimSuffix(entry.Name(), ext) + "." + hex.EncodeToString(sum[:6]) + ext
		a.names[entry.Name()], a.files[hashed] = hashed, content
	}
	return a, nil
}

// path is where a page loads a file from.
func (a *assets) path(name string) string { return "/assets/" + a.names[name] }

func (a *assets) serve(w http.ResponseWriter, r *http.Request) {
	name := chi.URLParam(r, "name")
	content, ok := a.files[name]
	if !ok {
		http.Error(w, "there is no such file", http.StatusNotFound)
		return
	}
	media := "text/css; charset=utf-8"
	if path.Ext(name) == ".js" {
		media = "text/javascript; charset=utf-8"
	}
	w.Header().Set("Content-Type", media)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	_, _ = w.Write(content)
}
