package fault

import (
	"math"
	"strconv"
	"time"
)

// Headers looks up the request headers by which a client asks for faults. Names
// are lower case.
type Headers interface {
	Header(name string) (value string, ok bool)
}

// The request headers that ask for faults, where the policy admits it.
const (
	delayHeader        = "x-envoy-fault-delay-request" // in milliseconds
	delayPercentHeader = "x-envoy-fault-delay-request-percentage"
	abortHeader        = "x-envoy-fault-abort-request" // an HTTP status
	abortGRPCHeader    = "x-envoy-fault-abort-grpc-request"
	abortPercentHeader = "x-envoy-fault-abort-request-percentage"
)

// lastGRPC is the greatest gRPC status code that is known.
const lastGRPC = 16

func headerDelay(h Headers) time.Duration {
	ms, ok := number(h, delayHeader)
	if !ok {
		return 0
	}
	return time.Duration(min(ms, math.MaxInt64/uint64(time.Millisecond))) * time.Millisecond
}

// headerAbort takes the HTTP status, if there is a proper one, before the gRPC
// status.
func headerAbort(h Headers) Abort {
	if n, ok := number(h, abortHeader); ok && n >= 200 && n < 600 {
		return Abort{HTTP: int(n)}
	}
	if n, ok := number(h, abortGRPCHeader); ok && n <= lastGRPC {
		return abortGRPC(int(n))
	}
	return Abort{}
}

// lowered is the fraction that a header asks for, in parts of per; never more
// than f. Without the header it is f.
func (f Fraction) lowered(h Headers, header string, per uint32) Fraction {
	if per == 0 {
		per = 100
	}
	n, ok := number(h, header)
	if !ok || n >= uint64(per) {
		return f
	}
	return min(f, Fraction(n*Million/uint64(per)))
}

// number reads a header that holds a number.
func number(h Headers, name string) (uint64, bool) {
	if h == nil {
		return 0, false
	}
	text, ok := h.Header(name)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil
}
