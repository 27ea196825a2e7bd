package web_test

import (
	"testing"

	"github.com/rowcall/rowcall/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }
