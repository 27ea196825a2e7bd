package dispatch

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/rowcall/rowcall/subscriptions"
)

// authenticate prepares how rowcall identifies itself to the endpoint: by a
// header that is the same for every attempt, or by a token that is fetched. Its
// errors never hold a credential.
func (t *Target) authenticate(auth *subscriptions.Auth) error {
	if auth == nil {
		return nil
	}
	var value string
	switch auth.Type {
	case subscriptions.AuthBasic:
		if auth.Username == "" || strings.Contains(auth.Username, ":") || auth.Password.IsZero() {
			return errors.New("check endpoint.auth: want a username without a colon, and a password")
		}
		value = "Basic " + base64.StdEncoding.EncodeToString([]byte(auth.Username+":"+auth.Password.Reveal()))
	case subscriptions.AuthBearer:
		if auth.Token.IsZero() || !isHeaderValue(auth.Token.Reveal()) {
			return errors.New("check endpoint.auth: want a token without control characters")
		}
		value = "Bearer " + auth.Token.Reveal()
	case subscriptions.AuthOAuth2:
		client, err := newOAuthClient(auth, t.tls)
		if err != nil {
			return err
		}
		t.oauth = client
		return nil
	default:
		return fmt.Errorf("check endpoint.auth: type %q is not supported", auth.Type)
	}
	t.header["Authorization"] = []string{value}
	return nil
}
