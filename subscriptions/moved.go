package subscriptions

import "net/url"

// checkMoved refuses a patch that would send a stored secret to another origin
// than it was given for: who may edit a subscription may not know its secrets, and
// would learn them so. Given again in the same patch, a secret is the new origin's.
//
// The endpoint gets what basic and bearer hold, and the tokens of oauth2; token_url
// gets the client secret; both are shown the client certificate.
func (e *FieldErrors) checkMoved(before, after *Endpoint, patch any) {
	endpoint := moved(before.URL, after.URL)
	token := before.Auth != nil && after.Auth != nil && moved(before.Auth.TokenURL, after.Auth.TokenURL)
	if !endpoint && !token {
		return
	}
	stays := func(old, now Secret, path ...string) {
		if !old.IsZero() && !now.IsZero() && !names(patch, append([]string{"endpoint"}, path...)) {
			field := "endpoint"
			for _, name := range path {
				field = memberPath(field, name)
			}
			e.add(field, "must be given again: it was given for another origin than the one that would get it now")
		}
	}
	if before.Auth != nil && after.Auth != nil {
		if endpoint {
			stays(before.Auth.Password, after.Auth.Password, "auth", "password")
			stays(before.Auth.Token, after.Auth.Token, "auth", "token")
		}
		stays(before.Auth.ClientSecret, after.Auth.ClientSecret, "auth", "client_secret")
	}
	if before.TLS != nil && after.TLS != nil {
		stays(before.TLS.ClientKey, after.TLS.ClientKey, "tls", "client_key")
	}
}

// moved reports whether what is sent to a URL reaches another origin now.
func moved(before, after string) bool {
	was, err := url.Parse(before)
	if before == "" || err != nil {
		return false
	}
	is, err := url.Parse(after)
	return after != "" && (err != nil || Origin(was) != Origin(is))
}

// names reports whether a document has a text at a path.
func names(document any, path []string) bool {
	if len(path) == 0 {
		_, ok := document.(string)
		return ok
	}
	members, _ := document.(object)
	for _, member := range members {
		if member.name == path[0] && names(member.value, path[1:]) {
			return true
		}
	}
	return false
}
