package mirror

import (
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshframe/meshframe/mesh/outcome"
)

func TestStats(t *testing.T) {
	var s Stats
	ok, unavailable := outcome.OfGRPC(0), outcome.OfGRPC(14)
	aborted, exists := outcome.OfGRPC(10), outcome.OfGRPC(6) // both are 409
	lost := outcome.Attempt{GRPCStatus: -1, Conditions: outcome.Reset}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for _, pair := range [][2]*outcome.Attempt{
				{&ok, &ok}, {&ok, &unavailable}, {&aborted, &exists}, {&lost, &lost}, {&unavailable, &lost},
			} {
				s.Sent()
				s.Compare(pair[0], pair[1])
			}
			s.Dropped()
		})
	}
	wg.Wait()
	want := Counts{Sent: 20, Dropped: 4, Equal: 8, Different: 12}
	want.ByClass[2][2], want.ByClass[2][5], want.ByClass[4][4] = 4, 4, 4
	want.ByClass[0][0], want.ByClass[5][0] = 4, 4
	if diff := cmp.Diff(want, s.Snapshot()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	s.Compare(&outcome.Attempt{HTTPStatus: 999}, &outcome.Attempt{HTTPStatus: -1})
	if s.Snapshot().ByClass[0][0] != 5 {
		t.Error("a status that is none has a class")
	}
	if n := testing.AllocsPerRun(100, func() { s.Compare(&ok, &ok) }); n != 0 {
		t.Errorf("Compare allocates %v times", n)
	}
}
