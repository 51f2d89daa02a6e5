package mirror

import (
	"sync/atomic"

	"github.com/meshframe/meshframe/mesh/outcome"
)

// Classes is the number of status classes: 0 is no answer, 1 to 5 are the
// hundreds of the HTTP status (for gRPC that of its status).
const Classes = 6

// Stats counts the copies that were sent to one cluster. It is safe for
// concurrent use; the zero Stats is ready and must not be copied.
type Stats struct {
	sent, dropped    atomic.Uint64
	equal, different atomic.Uint64
	classes          [Classes][Classes]atomic.Uint64
}

// Sent counts a copy that was sent.
func (s *Stats) Sent() { s.sent.Add(1) }

// Dropped counts a copy that was not sent, or given up, to bound what mirrors
// cost.
func (s *Stats) Dropped() { s.dropped.Add(1) }

// Compare counts how the original and its copy ended. They are equal if they
// have the same status.
func (s *Stats) Compare(original, copied *outcome.Attempt) {
	s.classes[class(original)][class(copied)].Add(1)
	if original.HTTPStatus == copied.HTTPStatus && original.GRPCStatus == copied.GRPCStatus {
		s.equal.Add(1)
		return
	}
	s.different.Add(1)
}

func class(a *outcome.Attempt) int {
	if c := int(a.HTTPStatus) / 100; c > 0 && c < Classes {
		return c
	}
	return 0
}

// Counts is what Stats counted.
type Counts struct {
	Sent, Dropped    uint64
	Equal, Different uint64
	// ByClass[o][c] are the pairs of which the original was of class o and the
	// copy of class c.
	ByClass [Classes][Classes]uint64
}

// Snapshot returns the counts. Each is exact; while calls end they may not add
// up.
func (s *Stats) Snapshot() Counts {
	c := Counts{
		Sent: s.sent.Load(), Dropped: s.dropped.Load(),
		Equal: s.equal.Load(), Different: s.different.Load(),
	}
	for o := range s.classes {
		for m := range s.classes[o] {
			c.ByClass[o][m] = s.classes[o][m].Load()
		}
	}
	return c
}
