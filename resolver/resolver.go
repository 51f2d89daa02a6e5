// Package resolver is the gRPC resolver "mesh". It borrows a target that
// resolver/watch subscribes to and passes each snapshot on to the channel's
// balancer; an idle channel gives the target back without ending the
// subscription.
//
// This package makes no promise of a stable API.
package resolver

import (
	"context"
	"errors"
	"sync"

	"google.golang.org/grpc/attributes"
	grpcresolver "google.golang.org/grpc/resolver"

	"github.com/meshframe/meshframe/resolver/watch"
)

// Scheme is the scheme of targets that go through the mesh: mesh:///host:port.
const Scheme = "mesh"

// NewBuilder returns a builder for channels to t. Channels share a target by
// sharing t. It is given to gRPC with grpc.WithResolvers.
func NewBuilder(t *watch.Target) grpcresolver.Builder { return builder{t} }

type builder struct{ target *watch.Target }

func (builder) Scheme() string { return Scheme }

// Build subscribes, or joins the subscription there is, and returns at once.
func (b builder) Build(_ grpcresolver.Target, cc grpcresolver.ClientConn, _ grpcresolver.BuildOptions) (grpcresolver.Resolver, error) {
	ctx, cancel := context.WithCancel(context.Background())
	r := &meshResolver{cc: cc, cancel: cancel, lease: b.target.Acquire()}
	r.wg.Go(func() { r.run(ctx) })
	return r, nil
}

// meshResolver publishes snapshots to one channel from its own goroutine, so
// that a slow channel delays no other.
type meshResolver struct {
	cc     grpcresolver.ClientConn
	cancel context.CancelFunc
	lease  *watch.Lease
	wg     sync.WaitGroup
}

func (r *meshResolver) run(ctx context.Context) {
	var last watch.Published
	for {
		p, err, changed := r.lease.Target().Current()
		switch {
		case p.Snapshot != nil && p != last:
			last = p
			// The error asks for ResolveNow, which has no meaning for a
			// subscription.
			_ = r.cc.UpdateState(grpcresolver.State{Attributes: attributes.New(watch.PublishedKey{}, p)})
		case p.Snapshot == nil && err != nil:
			// Only its text: to gRPC an error that wraps a status ends calls, even
			// those that would wait for ready.
			r.cc.ReportError(errors.New(err.Error()))
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// ResolveNow does nothing: the subscription delivers changes as they happen.
func (*meshResolver) ResolveNow(grpcresolver.ResolveNowOptions) {}

// Close gives the target back. It does not wait for the goroutine: gRPC may
// hold locks that an update under way needs.
func (r *meshResolver) Close() {
	r.cancel()
	r.lease.Release()
}
