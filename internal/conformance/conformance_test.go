package conformance_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/meshframe/meshframe/internal/conformance"
	"github.com/meshframe/meshframe/xdsserver/support"
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

// unplayed are supported fields without a row, with the reason.
var unplayed = map[string]string{
	"DestinationRule.host": "every row with a rule shows it",
	"DestinationRule.trafficPolicy.connectionPool.tcp.tcpKeepalive": "connections in memory have no probes; package interceptors has its test",
}

// TestSupportedFieldsHaveRows holds that what is said to be supported is played,
// and that rows show fields that there are.
func TestSupportedFieldsHaveRows(t *testing.T) {
	rows, err := conformance.Rows()
	if err != nil {
		t.Fatal(err)
	}
	var shown, fields []string
	for _, row := range rows {
		shown = append(shown, row.Shows...)
	}
	for _, field := range support.Rows() {
		name := strings.Trim(field.Kind+"."+strings.ReplaceAll(field.Field, "[]", ""), ".")
		fields = append(fields, name)
		if !slices.Contains([]string{"VirtualService", "DestinationRule", "MeshPolicy", "Sidecar"}, field.Kind) || unplayed[name] != "" {
			continue
		}
		if field.Verdict(support.Client{Type: support.Meshframe}).Outcome == support.Supported && !slices.ContainsFunc(shown, about(name)) {
			t.Errorf("no row shows %s", name)
		}
	}
	for _, name := range shown {
		if !slices.ContainsFunc(fields, about(name)) {
			t.Errorf("a row shows %s, which is not there", name)
		}
	}
}

// about tells whether one of two fields is within the other, or they are the same.
func about(one string) func(other string) bool {
	return func(other string) bool {
		return one == other || strings.HasPrefix(one, other+".") || strings.HasPrefix(other, one+".")
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
