package interceptors

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/meshframe/meshframe/mesh/breaker"
	"github.com/meshframe/meshframe/mesh/outcome"
)

// pass asks the half-open breaker of the call's cluster, if it has one, for an
// attempt.
func (c *call) pass() (breaker.Permit, error) {
	up := c.Decision.Upstream
	if up.Gate == nil {
		return breaker.Permit{}, nil
	}
	permit, err := up.Gate.Allow()
	if err != nil {
		c.Last = outcome.Attempt{GRPCStatus: int32(codes.Unavailable), HTTPStatus: 503, LocalOrigin: true, Conditions: outcome.Overflow}
		return permit, status.Errorf(codes.Unavailable, "cluster %q: %v", up.Name, err)
	}
	return permit, nil
}

// passed tells the breaker how the attempt ended.
func (c *call) passed(p breaker.Permit) {
	switch {
	case c.Decision.Upstream.Gate == nil:
	case c.Picked == nil && c.Last == (outcome.Attempt{}): // no connection in time
		if errors.Is(c.Err(), context.Canceled) {
			p.Abandon()
		} else {
			p.Done(false)
		}
	case codes.Code(c.Last.GRPCStatus) == codes.Canceled && c.Err() != nil:
		p.Abandon()
	default:
		p.Done(!c.Last.Failed())
	}
}

// probingStream is a stream by which the breaker finds out whether the cluster is
// well again. It does not wait for the end, which may be far off: an answer will do.
type probingStream struct {
	grpc.ClientStream
	permit breaker.Permit
}

// RecvMsg receives the next message.
func (s *probingStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err == nil {
		s.permit.Answered()
	}
	return err
}

// Header waits for the response's headers.
func (s *probingStream) Header() (metadata.MD, error) {
	md, err := s.ClientStream.Header()
	if err == nil && md != nil { // else there is nothing but the end
		s.permit.Answered()
	}
	return md, err
}
