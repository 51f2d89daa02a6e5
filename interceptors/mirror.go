package interceptors

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/meshframe/meshframe/mesh"
	"github.com/meshframe/meshframe/mesh/mirror"
	"github.com/meshframe/meshframe/mesh/outcome"
)

const (
	// maxMirrors is how many copies of calls a channel has under way at once;
	// of more calls no copies are made.
	maxMirrors = 256
	// mirrorTimeout ends copies of calls that have no deadline of their own.
	mirrorTimeout = 30 * time.Second
	// mirrorQueue and mirrorBytes bound the messages of a stream that wait for its
	// copy; a copy that falls behind further is given up. A single message may be of any
	// size.
	mirrorQueue = 64
	mirrorBytes = 256 << 10
)

// comparison waits for the status of a call and of its copy.
type comparison struct {
	stats *mirror.Stats
	once  sync.Once

	mu             sync.Mutex
	original, copy *outcome.Attempt // nil until it has ended
}

// originalEnded notes how the call itself ended.
func (c *comparison) originalEnded(err error) { c.ended(&c.original, err) }

// copyEnded notes how its copy ended.
func (c *comparison) copyEnded(err error) { c.ended(&c.copy, err) }

func (c *comparison) ended(side **outcome.Attempt, err error) {
	a := outcome.OfGRPC(int32(status.Code(err)))
	c.mu.Lock()
	defer c.mu.Unlock()
	*side = &a
	if c.original != nil && c.copy != nil {
		c.once.Do(func() { c.stats.Compare(c.original, c.copy) })
	}
}

// shadow is one copy of a call: a call of its own, which outlives the caller's.
type shadow struct {
	*call
	cancel  context.CancelFunc
	compare *comparison
	opts    []grpc.CallOption
}

// shadows draws the mirrors of the call and prepares those that get a copy. The
// copies are independent of the caller's context but for its values, end by a
// deadline of their own, and slow the call down by no more than the encoding of
// its messages. given is the call before the route's edits: hash policies go by it.
func (c *call) shadows(given outgoing, codec frameCodec, authority string, opts []grpc.CallOption) []*shadow {
	s := c.client.target.Snapshot()
	if s == nil {
		return nil
	}
	var out []*shadow
	for i := range c.Decision.Actions.Mirrors {
		var d mesh.Decision
		if !c.client.engine.DecideMirror(s, &c.Decision, i, &d) {
			continue
		}
		if d.LacksKey() {
			c.readMetadata(given.ctx)
			r := c.request(s.Authority, given.method)
			c.client.engine.KeyMirror(s, &r, &d)
		}
		stats := &d.Upstream.State.Mirrored
		if c.client.mirrors.Add(1) > maxMirrors {
			c.client.mirrors.Add(-1)
			stats.Dropped()
			continue
		}
		out = append(out, c.newShadow(d, stats, codec, c.Decision.Actions.Mirrors[i].Authority(authority), opts))
	}
	return out
}

func (c *call) newShadow(d mesh.Decision, stats *mirror.Stats, codec frameCodec, authority string, opts []grpc.CallOption) *shadow {
	timeout := mirrorTimeout
	if deadline, ok := c.ends(); ok {
		timeout = min(timeout, time.Until(deadline))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context), timeout)
	k := c.client.newCall(ctx)
	k.Decision = d
	k.Place = k.Decision.Upstream.State.Acquire()
	k.acquired = true
	k.Observe = d.Upstream.Cluster.Outlier != nil
	var out results
	out.replace(opts)
	return &shadow{
		call: k, cancel: cancel, compare: &comparison{stats: stats},
		opts: append(out.opts, grpc.CallAuthority(authority), grpc.ForceCodecV2(codec)),
	}
}

// end notes how the copy ended and gives back what it holds.
func (s *shadow) end(err error) {
	s.settle(err)
	s.compare.copyEnded(err)
	s.drop()
}

// drop gives back what the copy holds.
func (s *shadow) drop() {
	s.cancel()
	s.release()
	s.client.mirrors.Add(-1)
}

// unary sends the copy of a unary call.
func (s *shadow) unary(method string, req *frame, cc *grpc.ClientConn, invoker grpc.UnaryInvoker) {
	s.compare.stats.Sent()
	go func() {
		var reply frame
		s.end(invoker(s.counted(s.call), method, req, &reply, cc, s.opts...))
	}()
}

// shadowStream is the copy of a stream: what the caller sends is queued for it.
type shadowStream struct {
	*shadow
	queue  chan *frame
	mu     sync.Mutex
	closed bool // guarded by mu, as is sending to queue
	lost   atomic.Bool
	bytes  atomic.Int64 // waiting
}

// stream is the copy of a stream, before it is opened.
func (s *shadow) stream() *shadowStream {
	return &shadowStream{shadow: s, queue: make(chan *frame, mirrorQueue)}
}

// open opens the copy of a stream.
func (s *shadowStream) open(desc *grpc.StreamDesc, method string, cc *grpc.ClientConn, streamer grpc.Streamer) {
	s.compare.stats.Sent()
	go func() { s.end(s.run(desc, method, cc, streamer)) }()
}

func (s *shadowStream) run(desc *grpc.StreamDesc, method string, cc *grpc.ClientConn, streamer grpc.Streamer) error {
	ended := make(chan error, 1)
	st, err := streamer(s.counted(s.call), desc, cc, method, append(s.opts, grpc.OnFinish(func(err error) { ended <- err }))...)
	if err != nil {
		s.lost.Store(true)
		return err
	}
	go func() {
		for st.RecvMsg(&frame{}) == nil {
		}
	}()
	for {
		select {
		case err := <-ended:
			s.lost.Store(true)
			return err
		case f, ok := <-s.queue:
			if !ok {
				_ = st.CloseSend() // how the copy ended is all that matters
				return <-ended
			}
			s.bytes.Add(-int64(len(f.data)))
			_ = st.SendMsg(f)
		}
	}
}

// send queues a message for the copy, or gives the copy up.
func (s *shadowStream) send(f *frame) {
	if s.lost.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	size := int64(len(f.data))
	if waiting := s.bytes.Add(size); waiting <= mirrorBytes || waiting == size {
		select {
		case s.queue <- f:
			return
		default:
		}
	}
	s.lost.Store(true)
	s.cancel()
}

// closeSend ends what is sent to the copy.
func (s *shadowStream) closeSend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.queue)
	}
}
