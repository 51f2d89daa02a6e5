package interceptors

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
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
