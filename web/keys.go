package web

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/rowcall/rowcall/api/client"
)

// keyRow is a key with who made it, and whether it still works.
type keyRow struct {
	client.APIKey
	Maker string
	State state
	Own   bool // the visitor signed in with it
}

type keysView struct {
	Rows       []keyRow
	First      bool
	Home, Next string
}

func keys(v *visit) error {
	q := v.URL.Query()
	found, err := v.api.APIKeys(v.Context(), client.PageQuery{Limit: 100, Cursor: q.Get("cursor")})
	if err != nil {
		return err
	}
	names, err := v.keyNames()
	if err != nil {
		return err
	}
	view := keysView{First: q.Get("cursor") == "", Home: firstPage(v.URL), Next: nextPage(v.URL, found.NextCursor)}
	for _, key := range found.Items {
		view.Rows = append(view.Rows, keyRow{key, names[key.CreatedBy], keyState(&key, v.now), key.ID == v.user.Key})
	}
	return v.render("keys", "keys", "Keys", view)
}

// soon is how long before its end a key is said to expire soon.
const soon = 7 * 24 * time.Hour

func keyState(key *client.APIKey, now time.Time) state {
	switch {
	case key.ExpiresAt != nil && !key.ExpiresAt.After(now):
		return state{"idle", "expired"}
	case key.ExpiresAt != nil && key.ExpiresAt.Before(now.Add(soon)):
		return state{"warn", "expires soon"}
	case key.LastUsedAt == nil:
		return state{"idle", "never used"}
	default:
		return state{"ok", "in use"}
	}
}

// keyNames are the names of keys by their ids, as far as the visitor may know
// them: whoever is no admin knows his own. Those that were revoked are among them,
// for what they did stays.
func (v *visit) keyNames() (map[string]string, error) {
	names := map[string]string{v.user.Key: v.user.Name}
	if !v.may("admin") {
		return names, nil
	}
	for key, err := range client.All(v.Context(), client.PageQuery{Limit: 1000}, v.api.APIKeysEver) {
		if err != nil {
			return nil, err
		}
		names[key.ID] = key.Name
	}
	return names, nil
}

// keyFields is the form of a new key.
func keyFields() []section {
	return []section{{Open: true, Fields: []field{
		{Name: "name", Label: "Name", Kind: "text", Required: true, Example: "checkout service, production", Help: "Whose it is, or what for: it stands in the audit trail."},
		{Name: "scopes", Label: "Scopes", Kind: "flags", Options: []string{"read", "publish", "deliver", "write", "admin"}, Texts: map[string]string{
			"read":    "see all but keys and audit; the console needs it",
			"publish": "publish events",
			"deliver": "retry, discard, replay, pause, resume, probe",
			"write":   "make, change and delete subscriptions",
			"admin":   "all of these, keys, audit, accept gaps",
		}},
		{Name: "labels", Label: "Only with labels", Kind: "pairs", Rows: 2, Example: "team=growth", Help: "key=value, one a line. The key then sees only the subscriptions that have them all, and no events. Not with admin."},
		{Name: "expires_at", Label: "Expires", Kind: "text", Example: "never", Help: "never, after a time such as 90d, or at one such as 2027-01-31T12:00:00Z."},
	}}}
}

func newKey(v *visit) error {
	view := formView{Sections: keyFields()}
	view.Sections[0].Fields[1].Chosen = []string{"read"}
	return v.render("key-form", "keys", "New key", view)
}

func createKey(v *visit) error {
	form, err := v.form()
	if err != nil {
		return err
	}
	key := client.NewAPIKey{Name: strings.TrimSpace(form.Get("name")), Scopes: form["scopes"], Labels: map[string]string{}}
	for _, line := range lines(form.Get("labels")) {
		name, value, _ := strings.Cut(line, "=")
		key.Labels[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	if text := strings.TrimSpace(form.Get("expires_at")); text != "" && text != "never" {
		at, problem := readTime(text, v.now, +1)
		if problem != "" {
			return v.keyAgain(form, faulty("expires_at", problem))
		}
		key.ExpiresAt = &at
	}
	made, err := v.api.CreateAPIKey(v.Context(), key)
	if err != nil {
		return v.keyAgain(form, err)
	}
	return v.render("key", "keys", "The key of "+made.Name, made)
}

func (v *visit) keyAgain(form url.Values, err error) error {
	view := formView{Sections: keyFields()}
	if !view.refill(form, err) {
		return err
	}
	return v.write(http.StatusUnprocessableEntity, "key-form", frame{Title: "New key", Section: "keys", View: view})
}

// findKey returns a key by its id: there are few.
func (v *visit) findKey(id string) (client.APIKey, error) {
	for key, err := range client.All(v.Context(), client.PageQuery{Limit: 1000}, v.api.APIKeys) {
		if err != nil || key.ID == id {
			return key, err
		}
	}
	return client.APIKey{}, &client.Problem{Type: client.NotFound, Status: http.StatusNotFound}
}

func confirmRevoke(v *visit) error {
	key, err := v.findKey(v.param("id"))
	if err != nil {
		return err
	}
	return v.render("revoke", "keys", "Revoke "+key.Name+"?", keyRow{APIKey: key, State: keyState(&key, v.now), Own: key.ID == v.user.Key})
}

func revokeKey(v *visit) error {
	id := v.param("id")
	if err := v.noting().RevokeAPIKey(v.Context(), id); err != nil {
		return err
	}
	if id == v.user.Key {
		v.console.setSession(v.w, v.Request, "")
		http.Redirect(v.w, v.Request, "/sign-in", http.StatusSeeOther)
		return nil
	}
	return v.redirect("/keys", "revoked")
}
