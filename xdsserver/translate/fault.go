package translate

import (
	"math"
	"strings"

	commonfaultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/fault/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc/codes"
	networking "istio.io/api/networking/v1alpha3"
)

// fault translates a delay and an abort. A fault without a percentage is for no call, as in Istio.
func (r *router) fault(in *networking.HTTPFaultInjection, field string) *faultv3.HTTPFault {
	out := &faultv3.HTTPFault{}
	if d := in.GetDelay(); d != nil {
		if d.GetFixedDelay() == nil {
			r.note(r.rule.Meta, field+".fault.delay", Degraded, "only a fixed delay is injected")
		} else {
			out.Delay = &commonfaultv3.FaultDelay{
				FaultDelaySecifier: &commonfaultv3.FaultDelay_FixedDelay{FixedDelay: d.GetFixedDelay()},
				Percentage:         hundred(uint32(max(d.GetPercent(), 0))),
			}
			if d.GetPercentage() != nil {
				out.Delay.Percentage = percentage(d.GetPercentage())
			}
		}
	}
	if a := in.GetAbort(); a != nil {
		out.Abort = &faultv3.FaultAbort{Percentage: percentage(a.GetPercentage())}
		switch e := a.GetErrorType().(type) {
		case *networking.HTTPFaultInjection_Abort_HttpStatus:
			out.Abort.ErrorType = &faultv3.FaultAbort_HttpStatus{HttpStatus: uint32(e.HttpStatus)}
		case *networking.HTTPFaultInjection_Abort_GrpcStatus:
			out.Abort.ErrorType = &faultv3.FaultAbort_GrpcStatus{GrpcStatus: uint32(grpcStatus(e.GrpcStatus))}
		default:
			r.note(r.rule.Meta, field+".fault.abort", Degraded, "only an HTTP or gRPC status can be injected")
			out.Abort = nil
		}
	}
	return out
}

// grpcStatus reads the name or number of a status; what cannot be read is UNKNOWN.
func grpcStatus(s string) codes.Code {
	var c codes.Code
	if c.UnmarshalJSON([]byte(s)) == nil || c.UnmarshalJSON([]byte(`"`+strings.ToUpper(s)+`"`)) == nil {
		return c
	}
	return codes.Unknown
}

// percentage translates to millionths; nil is none.
func percentage(p *networking.Percent) *typev3.FractionalPercent {
	v := min(max(p.GetValue(), 0), 100)
	return &typev3.FractionalPercent{Numerator: uint32(math.Round(v * 10_000)), Denominator: typev3.FractionalPercent_MILLION}
}

func hundred(n uint32) *typev3.FractionalPercent {
	return &typev3.FractionalPercent{Numerator: n}
}

// mirrorFraction is the share of calls that Istio's older field mirrors: all when nothing is said.
func mirrorFraction(h *networking.HTTPRoute) *typev3.FractionalPercent {
	switch {
	case h.GetMirrorPercentage() != nil:
		return percentage(h.GetMirrorPercentage())
	case h.GetMirrorPercent() != nil:
		return hundred(h.GetMirrorPercent().GetValue())
	default:
		return hundred(100)
	}
}
