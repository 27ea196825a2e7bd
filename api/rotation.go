package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/rowcall/rowcall/subscriptions"
)

type rotateInput struct {
	EditInput
	RawBody []byte `contentType:"application/json"`
}

// rotationInput is the body of rotate, as the document describes it.
type rotationInput struct {
	Overlap subscriptions.Duration `json:"overlap"`
}

// rotateSecret makes a new signing secret the newest.
func (a *API) rotateSecret(ctx context.Context, in *rotateInput) (*subscriptionOutput, error) {
	overlap, err := parseRotation(in.RawBody)
	if err != nil {
		return nil, err
	}
	var secret subscriptions.Secret
	out, err := a.edit(ctx, &in.EditInput, func(sub *subscriptions.Subscription) error {
		err := sub.Rotate(time.Now(), overlap)
		if errors.Is(err, subscriptions.ErrOverlap) {
			return newProblem(problemConflict, "two secrets are active until "+sub.PreviousEnds.Format(time.RFC3339)+
				`: rotate after that, or with overlap "0s", which ends both at once`)
		}
		if err != nil {
			return err
		}
		secret = sub.Secrets[0]
		return nil
	})
	if err != nil {
		return nil, err
	}
	out.Body.Secret = secret.Reveal()
	return out, nil
}

// parseRotation reads the body of rotate, which may be left out. It refuses
// what is not known, what is given twice, and other letters' cases, as the
// parser of subscriptions does.
func parseRotation(raw []byte) (subscriptions.Duration, error) {
	overlap := subscriptions.DefaultOverlap
	if len(raw) == 0 {
		return overlap, nil
	}
	if err := checkJSON(raw); err != nil {
		return 0, err
	}
	fault := func(message string) error {
		return subscriptions.FieldErrors{{Field: "overlap", Message: message}}
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return 0, newProblem(problemValidation, "", fieldError{"body", "must be a JSON object"})
	}
	seen := false
	for decoder.More() {
		token, err := decoder.Token()
		name, _ := token.(string)
		if err != nil {
			return 0, newProblem(problemMalformed, "the body is not JSON")
		}
		var value any
		if err := decoder.Decode(&value); err != nil {
			return 0, newProblem(problemMalformed, "the body is not JSON")
		}
		text, isText := value.(string)
		switch {
		case name != "overlap":
			return 0, newProblem(problemValidation, "", fieldError{locationOf("body", name), "is not known here; it takes overlap"})
		case seen:
			return 0, fault("is given more than once")
		case value == nil:
		case !isText:
			return 0, fault("must be a string")
		default:
			if overlap, err = subscriptions.ParseDuration(text); err != nil {
				return 0, fault(err.Error())
			}
		}
		seen = true
	}
	if overlap < 0 || overlap > subscriptions.MaxOverlap {
		return 0, fault(fmt.Sprintf("must be from 0s to %s", subscriptions.MaxOverlap))
	}
	return overlap, nil
}
