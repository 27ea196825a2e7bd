package web

import (
	"net/http"

	"github.com/rowcall/rowcall/api/client"
)

// sourceRow is a source with its tables counted.
type sourceRow struct {
	client.Source
	Captured int
	LeftOut  int
}

func sourceRows(of []client.Source) []sourceRow {
	rows := make([]sourceRow, len(of))
	for i, s := range of {
		rows[i].Source = s
		for _, r := range s.Relations {
			if r.Captured {
				rows[i].Captured++
			} else {
				rows[i].LeftOut++
			}
		}
	}
	return rows
}

func sources(v *visit) error {
	found, err := v.api.Sources(v.Context())
	if err != nil {
		return err
	}
	return v.render("sources", "sources", "Sources", sourceRows(found.Items))
}

type sourceView struct {
	sourceRow
	Out, In   []client.Relation // tables left out, and captured
	MayAccept bool
}

func showSource(v *visit) error {
	view, err := readSource(v)
	if err != nil {
		return err
	}
	return v.render("source", "sources", sourceTitle(&view.Source), view)
}

func readSource(v *visit) (sourceView, error) {
	s, err := v.api.Source(v.Context(), v.param("name"))
	if err != nil {
		return sourceView{}, err
	}
	view := sourceView{sourceRow: sourceRows([]client.Source{s})[0], MayAccept: v.may("admin")}
	for _, r := range s.Relations {
		if r.Captured {
			view.In = append(view.In, r)
		} else {
			view.Out = append(view.Out, r)
		}
	}
	return view, nil
}

func confirmGap(v *visit) error {
	view, err := readSource(v)
	if err != nil {
		return err
	}
	if len(view.Gaps) == 0 {
		http.Redirect(v.w, v.Request, "/sources/"+view.Name, http.StatusSeeOther)
		return nil
	}
	return v.render("accept-gap", "sources", "Accept the gap of "+view.Name+"?", view)
}

func acceptGap(v *visit) error {
	name := v.param("name")
	if _, err := v.noting().AcceptGap(v.Context(), name); err != nil {
		return err
	}
	return v.redirect("/sources/"+name, "accepted")
}
