package stripe

import "sync/atomic"

// Sequence hands out the numbers from its start on, each once; hardly ever, when a
// goroutine is stopped at the wrong moment, some are left out, fewer than leaseSize.
// Callers one after the other get them in order. Processors that get in each other's
// way take several at once, and use them up alone. The zero Sequence is ready and
// starts with 0; it must not be copied. It is safe for concurrent use and takes no
// lock.
type Sequence struct {
	next  atomic.Uint64
	_     [lineSize - 8]byte
	apart atomic.Pointer[[]lease] // nil until processors have met
	_     [lineSize - 8]byte
}

// lease is the next number that a processor may hand out, in the upper bits, and
// how many it has, in the lower; 0 is none.
type lease struct {
	numbers atomic.Uint64
	_       [lineSize - 8]byte
}

const (
	leaseBits = 8
	leaseLeft = 1<<leaseBits - 1
	leaseSize = 64
)

// Start sets the number that comes next. It is not for concurrent use.
func (s *Sequence) Start(n uint64) { s.next.Store(n) }

// Next returns the next number.
func (s *Sequence) Next(at Place) uint64 {
	apart := s.apart.Load()
	if apart == nil {
		if n, ok := s.alone(); ok {
			return n
		}
		return s.lease(of(part(&s.apart), at))
	}
	l := of(apart, at)
	v := l.numbers.Load()
	switch {
	case v&leaseLeft != 0:
		if l.numbers.CompareAndSwap(v, v+(1<<leaseBits)-1) {
			return v >> leaseBits
		}
	case v != 0 && v>>leaseBits != s.next.Load(): // while it lasted, others took numbers
		return s.lease(l)
	case v != 0:
		l.numbers.CompareAndSwap(v, 0) // unless somebody leased meanwhile
	}
	if n, ok := s.alone(); ok {
		return n
	}
	return s.lease(l)
}

// alone takes one number, unless somebody else is taking it.
func (s *Sequence) alone() (n uint64, ok bool) {
	n = s.next.Load()
	return n, s.next.CompareAndSwap(n, n+1)
}

// lease takes many numbers and returns the first.
func (s *Sequence) lease(l *lease) uint64 {
	n := s.next.Add(leaseSize) - leaseSize
	l.numbers.Store((n+1)<<leaseBits | (leaseSize - 1))
	return n
}
