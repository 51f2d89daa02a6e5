package outcome

import "testing"

func TestFailed(t *testing.T) {
	for _, test := range []struct {
		attempt Attempt
		want    bool
	}{
		{Attempt{HTTPStatus: 200}, false},
		{Attempt{HTTPStatus: 404, Conditions: Retriable4xx}, false},
		{Attempt{HTTPStatus: 500}, true},
		{Attempt{Conditions: Server5xx}, true},
		{Attempt{Conditions: ConnectFailure}, true},
		{Attempt{Conditions: Reset}, true},
		{Attempt{Conditions: RefusedStream}, true},
		{Attempt{HTTPStatus: 499, Conditions: GRPCCancelled}, false},
	} {
		if got := test.attempt.Failed(); got != test.want {
			t.Errorf("%+v: Failed() = %v", test.attempt, got)
		}
	}
}
