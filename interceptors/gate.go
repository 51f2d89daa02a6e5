package interceptors

import (
	"context"
	"errors"
	"sync"
	"time"

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
	permit, err := up.Gate.Allow(time.Now())
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
			p.Done(false, time.Now())
		}
	case c.Last.Unsent(), codes.Code(c.Last.GRPCStatus) == codes.Canceled && c.Err() != nil:
		p.Abandon()
	default:
		p.Done(!c.Last.Failed(), time.Now())
	}
}

// heardStream is a stream whose first answer is of interest: the breaker finds out by
// it that the cluster is well again, and peak EWMA how fast the host is. Neither is to
// wait for the end, which may be far off.
type heardStream struct {
	grpc.ClientStream
	call   *call
	permit breaker.Permit
	heard  sync.Once
}

// hearing returns st, which is the call's only attempt.
func (c *call) hearing(st grpc.ClientStream, permit breaker.Permit) grpc.ClientStream {
	if !permit.Probe() && !c.measured() {
		return st
	}
	return &heardStream{ClientStream: st, call: c, permit: permit}
}

// measured reports whether the cluster wants to know how fast its hosts are.
func (c *call) measured() bool {
	up := c.Decision.Upstream
	return up != nil && up.Cluster != nil && up.Cluster.LB.Times()
}

// answeredBy notes that a server has answered the attempt.
func (c *call) answeredBy(permit breaker.Permit) {
	permit.Answered()
	if c.measured() {
		c.Answer(time.Now())
	}
}

// RecvMsg receives the next message.
func (s *heardStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err == nil {
		s.heard.Do(func() { s.call.answeredBy(s.permit) })
	}
	return err
}

// Header waits for the response's headers.
func (s *heardStream) Header() (metadata.MD, error) {
	md, err := s.ClientStream.Header()
	if err == nil && md != nil { // else there is nothing but the end
		s.heard.Do(func() { s.call.answeredBy(s.permit) })
	}
	return md, err
}
