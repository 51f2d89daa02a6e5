// Package outlier ejects hosts that fail (Envoy
// cluster.v3.OutlierDetection, gRFC A50). It is a state machine that is told
// of every attempt and of the passing of time.
//
// This package makes no promise of a stable API.
package outlier

import "time"

// Config is the outlier detection of one cluster. All percentages are 0 to
// 100. A detector whose enforcing percentage is 0 is off.
type Config struct {
	Interval         time.Duration // time between sweeps; default 10 s
	BaseEjectionTime time.Duration // default 30 s; multiplied by how often the host was ejected
	MaxEjectionTime  time.Duration // default max(300 s, BaseEjectionTime)
	// Jitter is the most that is added to an ejection time, by chance, so that
	// hosts which were ejected together do not return together; default 0.
	Jitter             time.Duration
	MaxEjectionPercent uint32 // default 10: of fewer than ten hosts none is ejected then
	// AlwaysEjectOne lets one host be ejected whatever MaxEjectionPercent says.
	AlwaysEjectOne bool
	// Errors are the responses that count as failures; nil: those of 500 and
	// above. Failures of local origin are not responses.
	Errors *StatusSet

	Consecutive5xx              uint32 // default 5; 0 is off
	EnforcingConsecutive5xx     uint32 // default 100
	ConsecutiveGateway          uint32 // default 5; 0 is off
	EnforcingConsecutiveGateway uint32 // default 0
	SplitLocalOrigin            bool   // count local-origin failures apart
	ConsecutiveLocalOrigin      uint32 // default 5; used only when split
	EnforcingConsecutiveLocal   uint32 // default 100

	SuccessRateMinimumHosts  uint32 // default 5
	SuccessRateRequestVolume uint32 // default 100
	SuccessRateStdevFactor   uint32 // default 1900, in thousandths
	EnforcingSuccessRate     uint32

	FailurePercentageThreshold     uint32 // default 85
	FailurePercentageMinimumHosts  uint32 // default 5
	FailurePercentageRequestVolume uint32 // default 50
	EnforcingFailurePercentage     uint32

	// The same two detectors over local-origin results, when split; they share
	// the thresholds above.
	EnforcingLocalOriginSuccessRate       uint32
	EnforcingFailurePercentageLocalOrigin uint32
}
