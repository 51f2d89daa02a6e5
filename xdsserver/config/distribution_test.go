package config

import "testing"

func TestDistribution(t *testing.T) {
	text := func(s string) *string { return &s }
	annotated := func(s string) map[string]string { return map[string]string{distributionAnnotation: s} }
	for _, test := range []struct {
		field       *string
		annotations map[string]string
		want        Distribution
	}{
		{nil, nil, Anywhere},
		{text("PreferClose"), nil, SameZone},
		{text("PreferSameZone"), nil, SameZone},
		{text("PreferSameNode"), nil, SameNode},
		{text("Other"), annotated("PreferClose"), Anywhere},
		{nil, annotated("preferclose"), SameZone},
		{nil, annotated("PreferSameNode"), SameNode},
		{text("PreferSameNode"), annotated("PreferClose"), SameNode},
	} {
		if got := DistributionOf(test.field, test.annotations); got != test.want {
			t.Errorf("%v, %v: %v, want %v", test.field, test.annotations, got, test.want)
		}
	}
}
