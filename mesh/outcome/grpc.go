package outcome

// The gRPC status codes that say more than their HTTP status.
const (
	grpcCancelled         = 1
	grpcDeadlineExceeded  = 4
	grpcResourceExhausted = 8
	grpcInternal          = 13
	grpcUnavailable       = 14
)

// httpOfGRPC are the HTTP statuses that gRPC status codes are read as, by code
// (Envoy Grpc::Utility::grpcToHttpStatus).
var httpOfGRPC = [...]int32{200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401}

// OfGRPC is the outcome of an attempt that the upstream answered with a gRPC
// status code.
func OfGRPC(code int32) Attempt {
	a := Attempt{GRPCStatus: code, HTTPStatus: 500}
	if code >= 0 && int(code) < len(httpOfGRPC) {
		a.HTTPStatus = httpOfGRPC[code]
	}
	switch s := a.HTTPStatus; {
	case s >= 502 && s <= 504:
		a.Conditions = Server5xx | GatewayError
	case s >= 500:
		a.Conditions = Server5xx
	case s == 409:
		a.Conditions = Retriable4xx
	}
	switch code {
	case grpcCancelled:
		a.Conditions |= GRPCCancelled
	case grpcDeadlineExceeded:
		a.Conditions |= GRPCDeadlineExceeded
	case grpcResourceExhausted:
		a.Conditions |= GRPCResourceExhausted
	case grpcInternal:
		a.Conditions |= GRPCInternal
	case grpcUnavailable:
		a.Conditions |= GRPCUnavailable
	}
	return a
}
