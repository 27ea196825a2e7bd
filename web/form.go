package web

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/rowcall/rowcall/api/client"
)

type formView struct {
	ID       string // empty: a new one
	Version  int64
	Name     string
	Sections []section
	Problem  string
	Others   []string // problems of no field of the form
	Tried    *tryout  // nil: nothing was tried
	MayTry   bool

	ManagedBy string // owner of the configuration that declares it; empty: none does
}

func newSubscription(v *visit) error {
	return v.render("form", "subscriptions", "New subscription", formView{Sections: sections(), MayTry: !v.restricted()})
}

// createSubscription makes one of the form. The API is the judge of it; what it
// finds faulty is said beside the fields.
func createSubscription(v *visit) error {
	form, err := v.form()
	if err != nil {
		return err
	}
	sub, err := v.api.CreateSubscription(v.Context(), bodyOf(form))
	if err != nil {
		return v.again("New subscription", formView{}, form, err)
	}
	return v.render("secret", "subscriptions", sub.Name+" is created.", sub)
}

func editSubscription(v *visit) error {
	sub, err := v.api.Subscription(v.Context(), v.param("id"))
	if err != nil {
		return err
	}
	of, err := members(sub)
	if err != nil {
		return err
	}
	view := formView{ID: sub.ID, Version: sub.Version, Name: sub.Name, ManagedBy: sub.ManagedBy, Sections: sections(), MayTry: !v.restricted()}
	fill(view.Sections, of)
	return v.render("form", "subscriptions", "Edit "+sub.Name, view)
}

func saveSubscription(v *visit) error {
	form, err := v.form()
	if err != nil {
		return err
	}
	sub, err := v.api.Subscription(v.Context(), v.param("id"))
	if err != nil {
		return err
	}
	of, err := members(sub)
	if err != nil {
		return err
	}
	// The version that the form was made of: what somebody changed since is not
	// overwritten.
	version, err := strconv.ParseInt(form.Get("version"), 10, 64)
	if err != nil || version < 1 {
		return &client.Problem{Type: client.Malformed, Status: http.StatusBadRequest, Title: "The form is incomplete", Detail: "open it again"}
	}
	if _, err := v.api.PatchSubscription(v.Context(), sub.ID, patchOf(form, of), version); err != nil {
		return v.again("Edit "+sub.Name, formView{ID: sub.ID, Version: version, Name: sub.Name, ManagedBy: sub.ManagedBy}, form, err)
	}
	return v.redirect("/subscriptions/"+sub.ID, "saved")
}

// again shows the form as it was sent, with what is wrong beside its fields.
func (v *visit) again(title string, view formView, form url.Values, err error) error {
	view.Sections, view.MayTry = sections(), !v.restricted()
	if !view.refill(form, err) {
		return err
	}
	return v.write(http.StatusUnprocessableEntity, "form", frame{Title: title, Section: "subscriptions", View: view})
}

// refill puts what was sent back into the form, and what is wrong with it beside
// its fields. It is false where err is of another kind.
func (view *formView) refill(form url.Values, err error) bool {
	p, ok := errors.AsType[*client.Problem](err)
	if !ok || p.Type != client.Validation && p.Type != client.Conflict && p.Type != client.Malformed {
		return false
	}
	view.putBack(form)
	view.Problem = "Nothing was saved: see below what to change."
	for _, fault := range p.Errors {
		if !place(view.Sections, fault) {
			view.Others = append(view.Others, strings.TrimPrefix(fault.Location, "body.")+": "+fault.Message)
		}
	}
	if len(p.Errors) == 0 {
		view.Others = append(view.Others, sentence(p.Title+": "+p.Detail))
	}
	for i := range view.Sections {
		s := &view.Sections[i]
		s.Open = s.Open || slices.ContainsFunc(s.Fields, func(f field) bool { return f.Problem != "" })
	}
	return true
}

// putBack puts what was sent into the form.
func (view *formView) putBack(form url.Values) {
	each(view.Sections, func(f *field) {
		f.Value, f.Chosen = form.Get(f.Name), form[f.Name]
		if f.Kind == "secret" {
			f.Value = "" // not sent back
		}
	})
}

// faulty is a problem of a field that the console finds by itself.
func faulty(name, message string) error {
	return &client.Problem{
		Type: client.Validation, Status: http.StatusUnprocessableEntity, Title: "Validation failed",
		Errors: []client.FieldError{{Location: "body." + name, Message: message}},
	}
}

// place puts a fault beside its field: that of the longest name that its
// location begins with.
func place(list []section, fault client.FieldError) bool {
	location := strings.TrimPrefix(fault.Location, "body.")
	var best *field
	each(list, func(f *field) {
		rest, ok := strings.CutPrefix(location, f.Name)
		fits := ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
		// A fault of an object as a whole stands at its first member.
		fits = fits || strings.HasPrefix(f.Name, location+".") && best == nil
		if fits && (best == nil || len(f.Name) > len(best.Name)) {
			best = f
		}
	})
	if best == nil {
		return false
	}
	if best.Problem != "" {
		best.Problem += "; "
	}
	best.Problem += fault.Message
	return true
}

// fieldProblem is a validation problem in a line; empty for any other error.
func fieldProblem(err error) string {
	p, ok := errors.AsType[*client.Problem](err)
	if !ok || p.Type != client.Validation && p.Type != client.Conflict {
		return ""
	}
	return strings.TrimSpace(sentence(p.Detail) + fieldText(p.Errors))
}

// bodyOf is the form as the body of create: what is empty is left out, and gets
// its default.
func bodyOf(form url.Values) map[string]any {
	body := map[string]any{}
	each(sections(), func(f *field) {
		if value := f.read(form); value != nil {
			put(body, f.Name, value)
		}
	})
	return body
}

// patchOf is the form as a merge patch of what there is: what is empty gets its
// default back, but for secrets, which stay.
func patchOf(form url.Values, of map[string]any) map[string]any {
	patch := map[string]any{}
	auth := form.Get("endpoint.auth.type")
	each(sections(), func(f *field) {
		value := f.read(form)
		switch {
		case f.Create || f.Kind == "secret" && value == nil && (auth == member(of, "endpoint.auth.type") || !strings.HasPrefix(f.Name, "endpoint.auth.")):
			return
		case f.Kind == "pairs":
			value = withoutGone(value, member(of, f.Name))
		}
		put(patch, f.Name, value)
	})
	endpoint, _ := patch["endpoint"].(map[string]any)
	if auth == "" && endpoint != nil {
		endpoint["auth"] = nil
	}
	for _, object := range []struct{ in, name string }{{"endpoint", "tls"}, {"", "window"}, {"", "rate_limit"}} {
		holder := patch
		if object.in != "" {
			holder, _ = patch[object.in].(map[string]any)
		}
		if given, _ := holder[object.name].(map[string]any); allNil(given) {
			holder[object.name] = nil
		}
	}
	return patch
}

func allNil(object map[string]any) bool {
	for _, value := range object {
		if value != nil {
			return false
		}
	}
	return true
}

// withoutGone is a map as a merge patch: what is no longer in it is null.
func withoutGone(value, before any) any {
	given, _ := value.(map[string]any)
	patch := map[string]any{}
	if old, ok := before.(map[string]any); ok {
		for key := range old {
			patch[key] = nil
		}
	}
	for key, v := range given {
		patch[key] = v
	}
	return patch
}

var numeric = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?$`)

// read is what the form says of a field, in the JSON type that the API wants;
// nil: nothing. A number that is none stays text, which the API refuses by name.
func (f *field) read(form url.Values) any {
	text := strings.TrimSpace(strings.ReplaceAll(form.Get(f.Name), "\r\n", "\n"))
	switch f.Kind {
	case "flags":
		if len(form[f.Name]) == 0 {
			return nil
		}
		return form[f.Name]
	case "flag":
		if text == "" {
			return nil
		}
		return true
	case "lines":
		if list := lines(text); list != nil {
			return list
		}
		return nil
	case "pairs":
		given := map[string]any{}
		for _, line := range lines(text) {
			key, value, _ := strings.Cut(line, "=")
			given[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
		if len(given) == 0 {
			return nil
		}
		return given
	}
	if text == "" {
		return nil
	}
	if f.Kind == "number" || f.Name == "start" && numeric.MatchString(text) {
		if numeric.MatchString(text) {
			return json.Number(text)
		}
	}
	return text
}

// lines are the lines of a text that are not empty; nil: there is none.
func lines(text string) []string {
	var list []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, line)
		}
	}
	return list
}

// put sets a member by its path.
func put(body map[string]any, path string, value any) {
	names := strings.Split(path, ".")
	for _, name := range names[:len(names)-1] {
		inner, ok := body[name].(map[string]any)
		if !ok {
			inner = map[string]any{}
			body[name] = inner
		}
		body = inner
	}
	body[names[len(names)-1]] = value
}
