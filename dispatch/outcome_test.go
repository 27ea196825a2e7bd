package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/rowcall/rowcall/dispatch"
)

func TestEveryStatusHasItsVerdict(t *testing.T) {
	t.Parallel()
	failed := func(reason dispatch.Reason, fault dispatch.Fault) dispatch.Verdict {
		return dispatch.Verdict{Outcome: dispatch.Failed, Reason: reason, Fault: fault}
	}
	endpoint := map[dispatch.Reason][]int{
		dispatch.ReasonUnauthorized: {401, 403, 407},
		dispatch.ReasonNotFound:     {404, 405},
		dispatch.ReasonGone:         {410},
		dispatch.ReasonThrottled:    {429},
		dispatch.ReasonClientError:  {402, 408, 421, 425, 426},
		dispatch.ReasonUnavailable:  {503},
	}
	for status := 100; status <= 599; status++ {
		want := failed(dispatch.ReasonRejected, dispatch.FaultEvent)
		switch status / 100 {
		case 1, 3:
			want = failed(dispatch.ReasonRedirect, dispatch.FaultEndpoint)
		case 2:
			want = dispatch.Verdict{Outcome: dispatch.Delivered}
		case 5:
			want = failed(dispatch.ReasonServerError, dispatch.FaultEndpoint)
		}
		for reason, statuses := range endpoint {
			if slices.Contains(statuses, status) {
				want = failed(reason, dispatch.FaultEndpoint)
			}
		}
		if got := dispatch.Judge(dispatch.Reply{Status: status}); got != want {
			t.Errorf("%d: got %+v, want %+v", status, got, want)
		}
	}
	for _, status := range []int{99, 600, 999} {
		if got := dispatch.Judge(dispatch.Reply{Status: status}); got != failed(dispatch.ReasonProtocol, dispatch.FaultEndpoint) {
			t.Errorf("%d: %+v", status, got)
		}
	}
	if got := dispatch.Judge(dispatch.Reply{}); got.Outcome != dispatch.Unknown {
		t.Errorf("no reply at all: %+v", got)
	}
}

func TestErrorsOfOurOwnMachineBlameNobody(t *testing.T) {
	t.Parallel()
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL} {
		err := fmt.Errorf("dial: %w", &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", errno)})
		want := dispatch.Verdict{Outcome: dispatch.Failed, Reason: dispatch.ReasonLocalResource, Fault: dispatch.FaultLocal}
		if got := dispatch.Judge(dispatch.Reply{Err: err}); got != want {
			t.Errorf("%v: %+v", errno, got)
		}
	}
	for _, err := range []error{context.Canceled, &net.OpError{Op: "read", Err: context.Canceled}} {
		want := dispatch.Verdict{Outcome: dispatch.Unknown, Reason: dispatch.ReasonUnknown, Fault: dispatch.FaultLocal}
		if got := dispatch.Judge(dispatch.Reply{Err: err}); got != want {
			t.Errorf("%v: %+v", err, got)
		}
	}
}

func TestErrorsWithoutAListenerToMakeThem(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want dispatch.Reason
	}{
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}, dispatch.ReasonRefused},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ENETUNREACH)}, dispatch.ReasonRefused},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ETIMEDOUT)}, dispatch.ReasonTimeout},
		{&net.OpError{Op: "write", Err: os.NewSyscallError("write", syscall.EPIPE)}, dispatch.ReasonReset},
		{&net.DNSError{Err: "i/o timeout", IsTimeout: true}, dispatch.ReasonDNS},
		{context.DeadlineExceeded, dispatch.ReasonTimeout},
		{io.ErrUnexpectedEOF, dispatch.ReasonReset},
		{errors.New("anything else"), dispatch.ReasonProtocol},
	} {
		got := dispatch.Judge(dispatch.Reply{Err: c.err})
		if got != (dispatch.Verdict{Outcome: dispatch.Failed, Reason: c.want, Fault: dispatch.FaultEndpoint}) {
			t.Errorf("%v: %+v, want %s", c.err, got, c.want)
		}
	}
}
