package translate

import (
	"math"

	commonfaultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/fault/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/meshframe/meshframe/xdsserver/config"
)

// fault translates a delay and an abort. A fault without a percentage is for no call, as in Istio. A MeshPolicy may leave
// it to the headers of a call which faults it gets.
func fault(in *networking.HTTPFaultInjection, own *config.FaultControl) *faultv3.HTTPFault {
	byHeader := own != nil && own.ByHeader
	out := &faultv3.HTTPFault{Delay: delay(in.GetDelay(), byHeader), Abort: abort(in.GetAbort(), byHeader)}
	if own != nil && own.MaxActive > 0 {
		out.MaxActiveFaults = wrapperspb.UInt32(own.MaxActive)
	}
	return out
}

func delay(in *networking.HTTPFaultInjection_Delay, byHeader bool) *commonfaultv3.FaultDelay {
	if in.GetFixedDelay() == nil {
		return nil
	}
	out := &commonfaultv3.FaultDelay{
		FaultDelaySecifier: &commonfaultv3.FaultDelay_FixedDelay{FixedDelay: in.GetFixedDelay()},
		Percentage:         hundred(uint32(min(max(in.GetPercent(), 0), 100))),
	}
	if in.GetPercentage() != nil {
		out.Percentage = percentage(in.GetPercentage())
	}
	if byHeader {
		out.FaultDelaySecifier = &commonfaultv3.FaultDelay_HeaderDelay_{HeaderDelay: &commonfaultv3.FaultDelay_HeaderDelay{}}
		out.Percentage = inHundredths(out.Percentage)
	}
	return out
}

func abort(in *networking.HTTPFaultInjection_Abort, byHeader bool) *faultv3.FaultAbort {
	out := &faultv3.FaultAbort{Percentage: percentage(in.GetPercentage())}
	switch e := in.GetErrorType().(type) {
	case *networking.HTTPFaultInjection_Abort_HttpStatus:
		out.ErrorType = &faultv3.FaultAbort_HttpStatus{HttpStatus: uint32(e.HttpStatus)}
	case *networking.HTTPFaultInjection_Abort_GrpcStatus:
		out.ErrorType = &faultv3.FaultAbort_GrpcStatus{GrpcStatus: uint32(grpcStatus(e.GrpcStatus))}
	default:
		return nil
	}
	if byHeader {
		out.ErrorType = &faultv3.FaultAbort_HeaderAbort_{HeaderAbort: &faultv3.FaultAbort_HeaderAbort{}}
		out.Percentage = inHundredths(out.Percentage)
	}
	return out
}

// percentage translates to millionths; nil is none.
func percentage(p *networking.Percent) *typev3.FractionalPercent {
	v := min(max(p.GetValue(), 0), 100)
	return &typev3.FractionalPercent{Numerator: uint32(math.Round(v * 10_000)), Denominator: typev3.FractionalPercent_MILLION}
}

// inHundredths is p in hundredths, if it is a whole number of them. Headers that ask for a share of the faults give it in
// the unit that the configuration has, and those who write 50 mean percent.
func inHundredths(p *typev3.FractionalPercent) *typev3.FractionalPercent {
	if n := p.GetNumerator(); p.GetDenominator() == typev3.FractionalPercent_MILLION && n%10_000 == 0 {
		return hundred(n / 10_000)
	}
	return p
}

func hundred(n uint32) *typev3.FractionalPercent {
	return &typev3.FractionalPercent{Numerator: n}
}
