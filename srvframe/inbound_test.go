package srvframe

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshframe/meshframe/mesh/snapshot"
	"github.com/meshframe/meshframe/resolver/xdsclient"
)

// denial is a listener's word that calls must fail.
type denial struct{}

func (denial) Error() string { return "deny" }
func (denial) Deny() bool    { return true }

// TestInbound plays what a control plane can say of a listener, and shows after
// each word whether the server admits calls.
func TestInbound(t *testing.T) {
	missing := &xdsclient.MissingError{}
	refused := &xdsclient.RefusedError{Err: errors.New("unreadable")}
	stream := &xdsclient.ServerError{Err: errors.New("connection lost")}
	good := &snapshot.Listener{}
	type word struct {
		address  string
		listener *snapshot.Listener
		err      error
		admits   bool
	}
	for name, words := range map[string][]word{
		"away":                          {{err: stream, admits: true}, {err: missing, admits: true}},
		"good":                          {{listener: good, admits: true}, {err: stream, admits: true}, {err: refused, admits: true}},
		"unreadable from the start":     {{err: refused}, {err: stream}, {err: missing}, {listener: good, admits: true}},
		"part of it cannot be enforced": {{listener: good, err: denial{}}, {err: stream}, {listener: good, admits: true}},
		"denied after a good one":       {{listener: good, admits: true}, {err: denial{}}, {listener: good, admits: true}},
		"one of two": {
			{address: "a", listener: good, admits: true}, {address: "b", err: refused},
			{address: "a", listener: good}, {address: "b", listener: good, admits: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := newInbound(slog.New(slog.DiscardHandler))
			for i, word := range words {
				in.watcher(word.address)(word.listener, word.err)
				_, err := in.calls.Unary(t.Context(), nil, &grpc.UnaryServerInfo{}, func(context.Context, any) (any, error) { return nil, nil })
				if admitted := err == nil; admitted != word.admits {
					t.Errorf("word %d: call admitted %v (%v), want %v", i, admitted, err, word.admits)
				}
				if err != nil && status.Code(err) != codes.PermissionDenied {
					t.Errorf("word %d: error %v, want PERMISSION_DENIED", i, err)
				}
			}
		})
	}
}

// TestInboundPolicies shows which listener's policies a server follows, as it
// hears of its addresses.
func TestInboundPolicies(t *testing.T) {
	plain := &snapshot.Listener{}
	one, other := &snapshot.Listener{MaxConcurrent: 1}, &snapshot.Listener{MaxConcurrent: 2}
	in := newInbound(slog.New(slog.DiscardHandler))
	for i, word := range []struct {
		address  string
		listener *snapshot.Listener
		err      error
		want     *snapshot.Listener
	}{
		{address: "b", err: &xdsclient.MissingError{}},
		{address: "b", listener: plain},
		{address: "b", listener: other, want: other},
		{address: "a", listener: plain, want: other},
		{address: "a", listener: one, want: one},
		{address: "a", err: &xdsclient.ServerError{Err: errors.New("connection lost")}, want: one},
		{address: "a", listener: plain, want: other},
	} {
		in.note(word.address, word.listener, word.err)
		if got := in.policies(); got != word.want {
			t.Errorf("word %d: policies of %+v, want %+v", i, got, word.want)
		}
	}
}
