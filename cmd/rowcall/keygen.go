package main

import (
	"fmt"

	"github.com/rowcall/rowcall/api"
	"github.com/rowcall/rowcall/subscriptions"
)

type keygenCmd struct{}

// Help is shown below the summary.
func (keygenCmd) Help() string {
	return `Keep the secret key as long as the database: what was sealed with it cannot be read without.

Example:
  (umask 077; rowcall keygen > rowcall.env)`
}

// Run prints two lines of an env file.
func (c *keygenCmd) Run(p *program) error {
	_, err := fmt.Fprintf(p.stdout, "ROWCALL_SECRET_KEY=%s\nROWCALL_API_KEY=%s\n", subscriptions.NewMasterKey(), api.NewKey())
	return err
}
