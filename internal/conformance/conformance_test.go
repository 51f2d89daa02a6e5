package conformance_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/meshframe/meshframe/internal/conformance"
)

// roads are those that the library has.
var roads = []conformance.Road{conformance.Unary, conformance.Stream}

// TestConformance plays every row on every road. A row that is listed in
// testdata/pending.yaml must fail: when it passes, it has to leave the list.
func TestConformance(t *testing.T) {
	rows, err := conformance.Rows()
	if err != nil {
		t.Fatal(err)
	}
	pending, err := conformance.PendingRows()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		t.Run(row.Name, func(t *testing.T) {
			for _, road := range roads {
				if row.Not[road.Name()] != "" {
					continue
				}
				t.Run(road.Name(), func(t *testing.T) {
					t.Parallel()
					var wrong []string
					synctest.Test(t, func(t *testing.T) { wrong = conformance.Play(t, road, row) })
					judge(t, wrong, reason(pending, row, road))
				})
			}
		})
	}
	for _, p := range pending {
		if !slices.ContainsFunc(rows, func(row *conformance.Row) bool { return row.Name == p.Row }) {
			t.Errorf("pending: there is no row %q", p.Row)
		}
	}
}

// judge fails the test of a row that should pass and does not, or passes though
// it is said not to.
func judge(t *testing.T, wrong []string, pending string) {
	t.Helper()
	switch {
	case pending == "" && len(wrong) > 0:
		t.Error(strings.Join(wrong, "\n"))
	case pending != "" && len(wrong) == 0:
		t.Errorf("the row passes: take it off the list of those that do not (%s)", pending)
	case pending != "":
		t.Logf("pending (%s):\n%s", pending, strings.Join(wrong, "\n"))
	}
}

// reason says why a row does not pass yet on a road; empty means that it must.
func reason(pending []conformance.Pending, row *conformance.Row, road conformance.Road) string {
	for _, p := range pending {
		if p.Row == row.Name && (len(p.Roads) == 0 || slices.Contains(p.Roads, road.Name())) {
			return p.Where + ": " + p.Reason
		}
	}
	return ""
}
