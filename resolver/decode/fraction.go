package decode

import (
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
)

const million = 1_000_000

// millionths reads a fraction as millionths, at most all of them. One that is
// not set is 0.
func (s *scope) millionths(f *typev3.FractionalPercent) (uint32, error) {
	if err := s.refuseUnknown(f); err != nil {
		return 0, err
	}
	var scale uint64
	switch f.GetDenominator() {
	case typev3.FractionalPercent_HUNDRED:
		scale = 10_000
	case typev3.FractionalPercent_TEN_THOUSAND:
		scale = 100
	case typev3.FractionalPercent_MILLION:
		scale = 1
	default:
		return 0, s.at("denominator").errorf("%d is not known", f.GetDenominator())
	}
	return uint32(min(uint64(f.GetNumerator())*scale, million)), nil
}
