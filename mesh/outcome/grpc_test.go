package outcome

import "testing"

func TestOfGRPC(t *testing.T) {
	for _, test := range []struct {
		code int32
		http int32
		want Condition
	}{
		{0, 200, 0},
		{1, 499, GRPCCancelled},
		{2, 500, Server5xx},
		{4, 504, Server5xx | GatewayError | GRPCDeadlineExceeded},
		{5, 404, 0},
		{6, 409, Retriable4xx},
		{8, 429, GRPCResourceExhausted},
		{10, 409, Retriable4xx},
		{12, 501, Server5xx},
		{13, 500, Server5xx | GRPCInternal},
		{14, 503, Server5xx | GatewayError | GRPCUnavailable},
		{16, 401, 0},
		{17, 500, Server5xx},
		{-1, 500, Server5xx},
	} {
		a := OfGRPC(test.code)
		if a.HTTPStatus != test.http || a.Conditions != test.want || a.GRPCStatus != test.code {
			t.Errorf("code %d: %+v, want HTTP %d, conditions %b", test.code, a, test.http, test.want)
		}
	}
}
