package store

import (
	"encoding/json"
	"errors"

	"github.com/rowcall/rowcall/subscriptions"
)

// endpointSecrets are the secrets of an endpoint in the form in which they are
// sealed. Their names are those of the members they belong to.
type endpointSecrets struct {
	Password     string `json:"password,omitempty"`
	Token        string `json:"token,omitempty"`
	ClientSecret string `json:"client_secret,omitempty"`
	ClientKey    string `json:"client_key,omitempty"`
}

func endpointPlace(id subscriptions.ID) string { return "subscriptions/" + string(id) + "/endpoint" }

// sealEndpoint seals the secrets of an endpoint; empty for none.
func (s *Store) sealEndpoint(id subscriptions.ID, e *subscriptions.Endpoint) ([]byte, error) {
	var secrets endpointSecrets
	if e.Auth != nil {
		secrets.Password, secrets.Token = e.Auth.Password.Reveal(), e.Auth.Token.Reveal()
		secrets.ClientSecret = e.Auth.ClientSecret.Reveal()
	}
	if e.TLS != nil {
		secrets.ClientKey = e.TLS.ClientKey.Reveal()
	}
	if secrets == (endpointSecrets{}) {
		return []byte{}, nil
	}
	plain, err := json.Marshal(secrets) //nolint:gosec // it is sealed below
	if err != nil {
		return nil, errors.New("encode secrets of endpoint") // the cause might quote them
	}
	return s.config.Cipher.Seal(plain, endpointPlace(id)), nil
}

// openEndpoint writes the secrets back into the endpoint that they are of.
func (s *Store) openEndpoint(id subscriptions.ID, sealed []byte, e *subscriptions.Endpoint) error {
	if len(sealed) == 0 {
		return nil
	}
	plain, err := s.config.Cipher.Open(sealed, endpointPlace(id))
	if err != nil {
		return err
	}
	var secrets endpointSecrets
	if err := json.Unmarshal(plain, &secrets); err != nil {
		return errors.New("decode secrets of endpoint: not a JSON object of texts")
	}
	if e.Auth != nil {
		e.Auth.Password, e.Auth.Token = subscriptions.NewSecret(secrets.Password), subscriptions.NewSecret(secrets.Token)
		e.Auth.ClientSecret = subscriptions.NewSecret(secrets.ClientSecret)
	}
	if e.TLS != nil {
		e.TLS.ClientKey = subscriptions.NewSecret(secrets.ClientKey)
	}
	return nil
}

// withoutSecrets is an endpoint as it may be seen.
func withoutSecrets(e subscriptions.Endpoint) subscriptions.Endpoint {
	if e.Auth != nil {
		auth := *e.Auth
		auth.Password, auth.Token, auth.ClientSecret = subscriptions.Secret{}, subscriptions.Secret{}, subscriptions.Secret{}
		e.Auth = &auth
	}
	if e.TLS != nil {
		tls := *e.TLS
		tls.ClientKey = subscriptions.Secret{}
		e.TLS = &tls
	}
	return e
}

// lacksSecret reports whether a secret is missing that the endpoint calls for.
func lacksSecret(e *subscriptions.Endpoint) bool {
	if e.TLS != nil && e.TLS.ClientCertificate != "" && e.TLS.ClientKey.IsZero() {
		return true
	}
	if e.Auth == nil {
		return false
	}
	switch e.Auth.Type {
	case subscriptions.AuthBasic:
		return e.Auth.Password.IsZero()
	case subscriptions.AuthBearer:
		return e.Auth.Token.IsZero()
	case subscriptions.AuthOAuth2:
		return e.Auth.ClientSecret.IsZero()
	}
	return false
}
