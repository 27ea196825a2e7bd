package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/subscriptions"
)

// declarations reads bodies as the configuration's.
func declarations(t *testing.T, bodies ...string) []api.Declaration {
	t.Helper()
	list := make([]api.Declaration, len(bodies))
	for i, body := range bodies {
		var err error
		if list[i], err = api.ReadDeclaration([]byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	return list
}

// declare declares, and shows what was done a line each.
func (w *world) declare(owner string, prune bool, bodies ...string) string {
	w.t.Helper()
	done, err := w.api.Declare(w.t.Context(), owner, prune, declarations(w.t, bodies...))
	if err != nil {
		w.t.Fatal(err)
	}
	var lines []string
	for _, d := range done {
		lines = append(lines, strings.TrimSpace(d.Action+" "+d.Name+" "+strings.Join(d.Members, ",")))
	}
	return strings.Join(lines, "\n")
}

// byName is what the API shows of a subscription.
func (w *world) byName(name string) map[string]any {
	w.t.Helper()
	var list struct{ Items []map[string]any }
	w.do(request{method: "GET", path: "/v1/subscriptions?name=" + name, scope: api.ScopeRead}).into(w.t, &list)
	if len(list.Items) != 1 {
		w.t.Fatalf("%d subscriptions have the name %s", len(list.Items), name)
	}
	return list.Items[0]
}

const (
	declaredPaid = `{"name":"paid","events":["public.orders.updated"],"endpoint":{"url":"https://receiver.test/paid","auth":{"type":"bearer","token":"first-token"}}}`
	declaredAll  = `{"name":"all","events":["**"],"endpoint":{"url":"https://receiver.test/all"}}`
)

func TestWhatIsDeclaredIsMadeChangedReleasedAndDeletedOnlyWhereAskedTo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(request{method: "POST", path: "/v1/subscriptions", scope: api.ScopeWrite, body: `{"name":"by-hand","events":["a"],"endpoint":{"url":"https://receiver.test/h"}}`})
	for _, step := range []struct {
		prune  bool
		bodies []string
		want   string
	}{
		{false, []string{declaredPaid, declaredAll}, "created paid\ncreated all"},
		{false, []string{declaredPaid, declaredAll}, ""},
		{true, []string{declaredAll, declaredPaid}, ""},
		{false, []string{strings.Replace(declaredPaid, "/paid", "/new", 1), declaredAll}, "changed paid endpoint.url"},
		{false, []string{strings.Replace(declaredPaid, "first-token", "second-token", 1), declaredAll}, "changed paid endpoint.url,endpoint credentials"},
		{false, []string{declaredAll}, "released paid"},
		{false, []string{declaredAll, declaredPaid}, "taken-over paid endpoint credentials,managed_by"},
		{true, []string{declaredPaid}, "deleted all"},
		{true, []string{declaredPaid, `{"name":"by-hand","events":["a"],"compact":true,"endpoint":{"url":"https://receiver.test/h"}}`}, "taken-over by-hand compact,managed_by"},
		{true, nil, "deleted by-hand\ndeleted paid"},
	} {
		got := w.declare("main", step.prune, step.bodies...)
		if strings.HasPrefix(step.want, "deleted by-hand") { // ids say in which order
			got, step.want = fmt.Sprint(len(got)), fmt.Sprint(len(step.want))
		}
		if got != step.want {
			t.Errorf("declaring %v:\n%s\nwant\n%s", step.bodies, got, step.want)
		}
	}
	if strings.Contains(w.logs.String(), "-token") {
		t.Error("a credential is logged")
	}
}

func TestADeclaredSubscriptionIsMarkedAndAnEditByHandSaysWhatBecomesOfIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.declare("main", false, declaredPaid)
	sub := w.byName("paid")
	path := fmt.Sprintf("/v1/subscriptions/%s", sub["id"])
	if sub["managed_by"] != "main" || !strings.Contains(fmt.Sprint(sub["warnings"]), `owner "main"`) {
		t.Errorf("managed_by %v, warnings %v", sub["managed_by"], sub["warnings"])
	}
	edited := w.do(request{method: "PATCH", path: path, scope: api.ScopeWrite, body: `{"max_in_flight":1}`})
	if edited.status != http.StatusOK || !strings.Contains(edited.body, "until the next start") {
		t.Errorf("edit: %d %s", edited.status, edited.body)
	}
	renamed := w.do(request{method: "PATCH", path: path, scope: api.ScopeWrite, body: `{"name":"billed"}`})
	if renamed.status != http.StatusConflict || !strings.Contains(renamed.body, "take it out of the file") {
		t.Errorf("rename: %d %s", renamed.status, renamed.body)
	}
	if same := w.do(request{method: "PATCH", path: path, scope: api.ScopeWrite, body: `{"name":"paid"}`}); same.status != http.StatusOK {
		t.Errorf("its own name: %d %s", same.status, same.body)
	}
	if got := w.declare("main", false, declaredPaid); got != "changed paid max_in_flight" {
		t.Errorf("the next start: %q", got)
	}
	// To pause is not declared, and lasts.
	w.do(request{method: "POST", path: path + "/pause", scope: api.ScopeDeliver})
	if got := w.declare("main", false, declaredPaid); got != "" || w.byName("paid")["state"] != "paused" {
		t.Errorf("a start while it is paused: %q, state %v", got, w.byName("paid")["state"])
	}
	refused := w.do(request{method: "DELETE", path: path, scope: api.ScopeWrite})
	if refused.status != http.StatusConflict || !strings.Contains(refused.body, "take it out of the file") || !strings.Contains(refused.body, "owner: \\\"main\\\" and subscriptions: []") {
		t.Errorf("delete: %d %s", refused.status, refused.body)
	}
	w.declare("main", false)
	if now := w.byName("paid"); now["managed_by"] != "" || len(now["warnings"].([]any)) != 0 {
		t.Errorf("released: managed_by %v, warnings %v", now["managed_by"], now["warnings"])
	}
	if gone := w.do(request{method: "DELETE", path: path, scope: api.ScopeWrite}); gone.status != http.StatusNoContent {
		t.Errorf("delete of what was released: %d %s", gone.status, gone.body)
	}
	var trail struct {
		Items []struct{ Actor, Action, Note string }
	}
	w.do(request{method: "GET", path: "/v1/audit?actor=configuration", scope: api.ScopeAdmin}).into(t, &trail)
	if len(trail.Items) != 3 || trail.Items[0].Action != "declare-subscription" || !strings.Contains(trail.Items[0].Note, "main") {
		t.Errorf("audit trail: %+v", trail.Items)
	}
}

func TestADeclaredSigningSecretSignsAndTheOneBeforeForADayToo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second := subscriptions.NewSigningSecret().Reveal(), subscriptions.NewSigningSecret().Reveal()
	with := func(secret string) string { return strings.Replace(declaredPaid, "{", `{"secret":"`+secret+`",`, 1) }
	secrets := func() []string {
		t.Helper()
		id, err := subscriptions.ParseID(fmt.Sprint(w.byName("paid")["id"]))
		if err != nil {
			t.Fatal(err)
		}
		sub, err := w.store.Subscription(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		var texts []string
		for _, s := range sub.Secrets {
			texts = append(texts, s.Reveal())
		}
		return texts
	}
	for _, step := range []struct {
		secret, did string
		want        []string
	}{
		{first, "created paid", []string{first}},
		{first, "", []string{first}},
		{second, "changed paid secret", []string{second, first}},
		{second, "", []string{second, first}},
		{first, "changed paid secret", []string{first, second}},
	} {
		if did := w.declare("main", false, with(step.secret)); did != step.did {
			t.Errorf("did %q, want %q", did, step.did)
		}
		if d := cmp.Diff(step.want, secrets()); d != "" {
			t.Error(d)
		}
	}
	if w.declare("main", false, declaredPaid) != "" {
		t.Error("a declaration without a secret changes the one there is")
	}
	for _, secret := range []string{`7`, `""`, `"whsec_"`, `"hunter2"`, `"whsec_aHVudGVyMg=="`} {
		_, err := api.ReadDeclaration([]byte(strings.Replace(declaredPaid, "{", `{"secret":`+secret+`,`, 1)))
		if err == nil || !strings.Contains(err.Error(), "secret must be whsec_") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("secret %s: %v", secret, err)
		}
	}
	// The API takes one too.
	made := w.do(request{
		method: "POST", path: "/v1/subscriptions", scope: api.ScopeWrite,
		body: `{"name":"given","secret":"` + first + `","events":["a"],"endpoint":{"url":"https://receiver.test/h"}}`,
	})
	if made.status != http.StatusCreated || !strings.Contains(made.body, first) {
		t.Errorf("create: %d %s", made.status, made.body)
	}
}

func TestAFaultyDeclarationChangesNothingAndEveryFaultIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.declare("other", false, declaredAll)
	_, err := w.api.Declare(t.Context(), "main", false, declarations(t,
		`{"name":"new","events":["a"],"endpoint":{"url":"https://receiver.test/h"}}`,
		strings.Replace(declaredPaid, "receiver.test", "denied.test", 1),
		declaredAll,
	))
	var got []string
	faults, _ := errors.AsType[api.DeclarationFaults](err)
	for _, f := range faults {
		got = append(got, fmt.Sprintf("%d %s", f.Index, f.Field))
	}
	if d := cmp.Diff([]string{"1 endpoint.url", "2 name"}, got); d != "" {
		t.Errorf("%v\n%s", err, d)
	}
	var list struct{ Items []json.RawMessage }
	w.do(request{method: "GET", path: "/v1/subscriptions", scope: api.ScopeRead}).into(t, &list)
	if len(list.Items) != 1 {
		t.Errorf("%d subscriptions are there, want the one of before", len(list.Items))
	}
	if _, err := w.api.Declare(t.Context(), "", true, nil); err == nil {
		t.Error("a declaration of nobody is taken: it would end everybody's")
	}
}

func TestInstancesThatDeclareAtOnceMakeOneOfEach(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bodies := []string{declaredPaid, declaredAll}
	for round := range 3 {
		bodies[0] = strings.Replace(declaredPaid, "{", fmt.Sprintf(`{"max_in_flight":%d,`, round+1), 1)
		list := declarations(t, bodies...)
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				if _, err := w.api.Declare(t.Context(), "main", true, list); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := w.byName("paid"); got["max_in_flight"] != float64(round+1) || got["version"] != float64(round+1) {
			t.Errorf("round %d: max_in_flight %v in version %v", round, got["max_in_flight"], got["version"])
		}
	}
	w.byName("all")
}

func TestOwnersThatDeclareOneNameAtOnceDoNotTakeItFromEachOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for round := range 20 {
		name := fmt.Sprintf("paid-%d", round)
		var wg sync.WaitGroup
		var errs [4]error
		begin := make(chan struct{})
		for i := range errs {
			owner := fmt.Sprintf("owner-%d", i)
			list := declarations(t, `{"name":"`+name+`","events":["a"],"endpoint":{"url":"https://receiver.test/`+owner+`"}}`)
			wg.Go(func() {
				<-begin
				_, errs[i] = w.api.Declare(t.Context(), owner, false, list)
			})
		}
		close(begin)
		wg.Wait()
		sub, won := w.byName(name), 0
		for i, err := range errs {
			faults, _ := errors.AsType[api.DeclarationFaults](err)
			owner := fmt.Sprintf("owner-%d", i)
			switch {
			case err == nil:
				won++
				if url := sub["endpoint"].(map[string]any)["url"]; sub["managed_by"] != owner || url != "https://receiver.test/"+owner {
					t.Errorf("%s declared it, and it is %v's and leads to %v", owner, sub["managed_by"], url)
				}
			case len(faults) != 1 || faults[0].Index != 0 || faults[0].Field != "name" || faults[0].Owner != sub["managed_by"]:
				t.Errorf("%s: %v", owner, err)
			}
		}
		if won != 1 {
			t.Errorf("%d of them declared it", won)
		}
	}
}
