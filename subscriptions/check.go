package subscriptions

// Tables returns the tables whose events the patterns match, of those whose
// columns are known.
func Tables(patterns []string, known []TableTypes) []TableTypes {
	set := NewSet([][]string{patterns})
	var matched []TableTypes
	for i := range known {
		table := &known[i]
		if len(table.Columns) == 0 {
			continue
		}
		prefix := EncodeName(table.Schema) + "." + EncodeName(table.Table) + "."
		for _, op := range [...]string{"inserted", "updated", "deleted", "truncated"} {
			if len(set.Match(prefix+op)) > 0 {
				matched = append(matched, *table)
				break
			}
		}
	}
	return matched
}

// Check judges the expressions of a valid Spec for the tables whose events it
// matches. Its error is FieldErrors: what cannot work on any of them. Warnings
// name the member, and what will fail or come late.
func (p *Programs) Check(s *Spec, known []TableTypes) (warnings []string, err error) {
	tables := Tables(s.Events, known)
	var faults FieldErrors
	for _, member := range [...]struct {
		kind   exprKind
		source *string
	}{{exprFilter, s.Filter}, {exprTransform, s.Transform}, {exprOrderingKey, s.OrderingKey}} {
		if member.source == nil {
			continue
		}
		found, err := p.expression(member.kind, *member.source).check(tables)
		if err != nil {
			faults.add(string(member.kind), "%s", err.Error())
		}
		for _, warning := range found {
			warnings = append(warnings, string(member.kind)+", "+warning)
		}
	}
	if len(faults) > 0 {
		return nil, faults.sorted()
	}
	return warnings, nil
}

// HasExpressions reports whether anything of a Spec is CEL.
func (s *Spec) HasExpressions() bool {
	return s.Filter != nil || s.Transform != nil || s.OrderingKey != nil
}

// WithFilter is the Spec with one more filter: what both want is wanted.
func (s Spec) WithFilter(filter string) Spec {
	if s.Filter != nil {
		filter = "(" + *s.Filter + "\n) && (" + filter + "\n)" // either may end with a comment
	}
	s.Filter = &filter
	return s
}
