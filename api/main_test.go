package api_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/rowcall/rowcall/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

var errDenied = errors.New("is not a target that may be called; ROWCALL_EGRESS_ALLOW can allow it")

// anyURL lets every URL through but those of the host denied.test.
type anyURL struct{}

func (anyURL) CheckURL(raw string) error {
	if strings.Contains(raw, "denied.test") {
		return errDenied
	}
	return nil
}
