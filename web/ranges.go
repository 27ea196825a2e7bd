package web

import "github.com/rowcall/rowcall/api/client"

// rangeView is a dead range that somebody is asked about.
type rangeView struct {
	client.DeadRange
	Name string
}

func confirmRange(v *visit) error {
	r, err := v.api.DeadRange(v.Context(), v.param("id"))
	if err != nil {
		return err
	}
	sub, err := v.api.Subscription(v.Context(), r.Subscription)
	if err != nil {
		return err
	}
	return v.render("confirm-range", "failed", "Discard "+plural(r.Count, "event", "events")+" of "+sub.Name+"?", rangeView{r, sub.Name})
}

func discardRange(v *visit) error {
	if err := v.noting().DiscardDeadRange(v.Context(), v.param("id")); err != nil {
		return err
	}
	return v.redirect("/failed", "discard")
}
