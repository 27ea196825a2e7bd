//go:build !linux

package pgtemp_test

const childEnv = "ROWCALL_PGTEMP_CHILD"

func child() {}
