package meshtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
)

// listen opens a listener at an address of its own: in memory, or on loopback if
// n is nil.
func listen(n *memory) (net.Listener, error) {
	if n == nil {
		return net.Listen("tcp", "127.0.0.1:0")
	}
	return n.listen(), nil
}

// memory is a network within the process. Nobody outside sees its addresses, and
// nothing in it waits for the operating system.
type memory struct {
	mu        sync.Mutex
	last      netip.Addr // the address given out last
	listeners map[string]*memoryListener
}

// newMemory returns an empty network: each listener and each dialer gets the
// next address of 10.0.0.0/8.
func newMemory() *memory {
	return &memory{last: netip.AddrFrom4([4]byte{10}), listeners: map[string]*memoryListener{}}
}

// memoryPort is the port of every listener in memory: each has an address of its
// own.
const memoryPort = 9000

func (n *memory) listen() *memoryListener {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &memoryListener{network: n, addr: n.next(), conns: make(chan net.Conn), done: make(chan struct{})}
	n.listeners[l.addr.String()] = l
	return l
}

// next gives out an address. The caller holds the lock.
func (n *memory) next() *net.TCPAddr {
	n.last = n.last.Next()
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(n.last, memoryPort))
}

var errRefused = errors.New("connection refused: nobody listens")

func (n *memory) dial(ctx context.Context, address string) (net.Conn, error) {
	n.mu.Lock()
	l, from := n.listeners[address], n.next()
	n.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("dial %s: %w", address, errRefused)
	}
	near, far := net.Pipe()
	select {
	case l.conns <- memoryConn{Conn: far, local: l.addr, remote: from}:
		return memoryConn{Conn: near, local: from, remote: l.addr}, nil
	case <-l.done:
		return nil, fmt.Errorf("dial %s: %w", address, errRefused)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// memoryListener is a listener in memory.
type memoryListener struct {
	network *memory
	addr    *net.TCPAddr
	conns   chan net.Conn
	once    sync.Once
	done    chan struct{}
}

// Accept implements net.Listener.
func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *memoryListener) Close() error {
	l.once.Do(func() {
		l.network.mu.Lock()
		defer l.network.mu.Unlock()
		delete(l.network.listeners, l.addr.String())
		close(l.done)
	})
	return nil
}

// Addr implements net.Listener.
func (l *memoryListener) Addr() net.Addr { return l.addr }

// memoryConn is one end of a connection in memory.
type memoryConn struct {
	net.Conn

	local, remote net.Addr
}

// LocalAddr implements net.Conn.
func (c memoryConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c memoryConn) RemoteAddr() net.Addr { return c.remote }
