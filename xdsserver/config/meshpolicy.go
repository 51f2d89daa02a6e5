package config

import (
	"slices"
	"time"
)

// MeshPolicySpec is the spec of a MeshPolicy (networking.meshframe.dev/v1alpha1): what Istio's API has no field for. It
// stands beside the DestinationRule of the same host and never takes anything away from it; where both set the same
// thing, the MeshPolicy counts.
//
// Durations are written as Go does ("1.5s"), percentages as numbers from 0 to 100. Absent fields have the defaults that
// are given here; a section that is absent is off, one that is there, if only as "{}", is on with its defaults.
type MeshPolicySpec struct {
	// Host is the service, as in a DestinationRule: short names are those of the policy's namespace, a wildcard stands
	// for every host that it covers. Required.
	Host string `json:"host"`
	// Subset narrows the policy to a subset that a DestinationRule defines; default all.
	Subset string `json:"subset,omitempty"`
	// Port narrows the policy to a port of the service; default all.
	Port uint32 `json:"port,omitempty"`
	// ExportTo says which namespaces' clients follow the policy, as in a DestinationRule; default all.
	ExportTo []string `json:"exportTo,omitempty"`

	// Breaker refuses calls for a while when too many failed.
	Breaker *Breaker `json:"breaker,omitempty"`
	// Fallback is what becomes of calls that find no endpoint or that the breaker refuses; default an error.
	Fallback *Fallback `json:"fallback,omitempty"`
	// RateLimit limits calls per time.
	RateLimit *RateLimits `json:"rateLimit,omitempty"`
	// MaxConcurrentRequests is how many requests one server of the host works on at once; more are refused at once with
	// UNAVAILABLE or 503. From 1; default no limit.
	MaxConcurrentRequests uint32 `json:"maxConcurrentRequests,omitempty"`
	// LoadBalancer chooses among the endpoints.
	LoadBalancer *LoadBalancer `json:"loadBalancer,omitempty"`
	// OutlierDetection has the detectors that compare endpoints with each other. Intervals and ejection times are those
	// of the DestinationRule's outlierDetection, or Envoy's defaults.
	OutlierDetection *OutlierDetection `json:"outlierDetection,omitempty"`
	// Retry has conditions and waits for retries; how many there are is said by the VirtualService.
	Retry *Retry `json:"retry,omitempty"`
	// Hedge lets a second attempt run beside one that is slow.
	Hedge *Hedge `json:"hedge,omitempty"`
	// SessionAffinity keeps a client on the endpoint that answered it first.
	SessionAffinity *SessionAffinity `json:"sessionAffinity,omitempty"`
	// Timeouts are those that the VirtualService has no field for.
	Timeouts *Timeouts `json:"timeouts,omitempty"`
	// Fault says more about the faults that the VirtualService injects.
	Fault *FaultControl `json:"fault,omitempty"`
}

// Breaker opens by error ratio: calls are refused for OpenFor, then Probes of them are let through, and when they
// succeed it closes.
type Breaker struct {
	// MinVolume is how many calls a window must have before the ratio counts. From 1; default 10.
	MinVolume uint32 `json:"minVolume,omitempty"`
	// ErrorPercent is the share of failed calls that opens the breaker. Above 0; default 10.
	ErrorPercent float64 `json:"errorPercent,omitempty"`
	// Window is the time over which calls are counted. From 100ms to 1h; default 10s.
	Window time.Duration `json:"window,omitempty"`
	// OpenFor is how long calls are refused. From 100ms to 1h; default 10s.
	OpenFor time.Duration `json:"openFor,omitempty"`
	// Probes is how many calls must succeed to close the breaker. From 1; default 3.
	Probes uint32 `json:"probes,omitempty"`
}

// Fallback has exactly one of its fields.
type Fallback struct {
	// Reply is a fixed HTTP answer. A gRPC call gets the status that gRPC gives to the HTTP status.
	Reply *Reply `json:"reply,omitempty"`
	// GRPC is a fixed gRPC status. An HTTP request gets the HTTP status that stands for it.
	GRPC *GRPCStatus `json:"grpc,omitempty"`
	// Destination takes the calls over.
	Destination *FallbackDestination `json:"destination,omitempty"`
	// Function is the name of a Go function that the application registered; other clients than the library answer with
	// the error.
	Function string `json:"function,omitempty"`
}

// Reply is a fixed HTTP answer.
type Reply struct {
	Status uint32 `json:"status"`         // from 200 to 599; required
	Body   string `json:"body,omitempty"` // at most 64 KiB; default empty
}

// GRPCStatus is a fixed answer to a gRPC call.
type GRPCStatus struct {
	Code    string `json:"code"`              // name of a status other than OK, such as UNAVAILABLE; required
	Message string `json:"message,omitempty"` // at most 4 KiB; default empty
}

// Number returns the code as it goes over the wire, from 1 to 16.
func (s *GRPCStatus) Number() uint32 { return uint32(max(slices.Index(grpcStatuses, s.Code), 0)) }

// FallbackDestination is where calls go instead: at least one of its fields is set.
type FallbackDestination struct {
	Host   string `json:"host,omitempty"`   // default the policy's own
	Subset string `json:"subset,omitempty"` // default all endpoints
	Port   uint32 `json:"port,omitempty"`   // default the port that was called
}

// RateLimits has the limits of both sides of a call. Every process counts for itself.
type RateLimits struct {
	// Client limits what one client sends.
	Client *RateLimit `json:"client,omitempty"`
	// Server limits what one server of the host takes, whoever sends it.
	Server *RateLimit `json:"server,omitempty"`
}

// RateLimit is a token bucket, and others for the requests with certain keys. A bucket of its own must be there or
// Keyed.
type RateLimit struct {
	TokenBucket
	// Keyed are the buckets of requests with certain keys, in place of the bucket above. The first whose keys a request
	// has counts.
	Keyed []KeyedBucket `json:"keyed,omitempty"`
	// MaxKeys is how many buckets Keyed makes for different values; of more, the least recently used is forgotten. From
	// 1; default 10000.
	MaxKeys uint32 `json:"maxKeys,omitempty"`
	// EnforcedPercent is the share of requests beyond the limit that are refused. Default 100.
	EnforcedPercent *float64 `json:"enforcedPercent,omitempty"`
	// Status is the HTTP status of a refusal, from 400 to 599. Default 429. A gRPC call gets the gRPC status that stands
	// for it; for 429, RESOURCE_EXHAUSTED.
	Status uint32 `json:"status,omitempty"`
}

// TokenBucket admits MaxTokens requests at once and TokensPerFill per FillInterval in the long run.
type TokenBucket struct {
	// MaxTokens is the size of the bucket, which begins full. From 1; required.
	MaxTokens uint32 `json:"maxTokens,omitempty"`
	// TokensPerFill is what is added each FillInterval. From 1; default 1.
	TokensPerFill uint32 `json:"tokensPerFill,omitempty"`
	// FillInterval is at least 50ms, as in Envoy; required.
	FillInterval time.Duration `json:"fillInterval,omitempty"`
}

// KeyedBucket is the bucket of the requests that have every one of the keys.
type KeyedBucket struct {
	TokenBucket
	Keys []RateKey `json:"keys"` // at least one
}

// RateKey is a property of a request: either Header or Source.
type RateKey struct {
	// Header is the name of a request header.
	Header string `json:"header,omitempty"`
	// Source takes the address of the client. It is of use to servers.
	Source bool `json:"source,omitempty"`
	// Value is what the property must be; "" is a bucket for each value that it has.
	Value string `json:"value,omitempty"`
}

// LoadBalancer chooses among endpoints.
type LoadBalancer struct {
	// Policy is LEAST_REQUEST, ROUND_ROBIN, RANDOM or PEAK_EWMA, and counts in place of the DestinationRule's. Default
	// the DestinationRule's.
	Policy string `json:"policy,omitempty"`
	// Decay is the time constant of PEAK_EWMA's averages. From 100ms to 10m; default 10s.
	Decay time.Duration `json:"decay,omitempty"`
	// ChoiceCount is how many endpoints LEAST_REQUEST compares. From 2 to 100; default 2.
	ChoiceCount uint32 `json:"choiceCount,omitempty"`
	// ActiveRequestBias is how strongly LEAST_REQUEST counts requests in flight among endpoints of unequal weight. From
	// 0, which ignores them; default 1.
	ActiveRequestBias *float64 `json:"activeRequestBias,omitempty"`
	// SubsetSize is how many endpoints one client connects to. From 1; default all.
	SubsetSize uint32 `json:"subsetSize,omitempty"`
	// PanicThreshold is the percentage of usable endpoints below which all are used. Default the DestinationRule's
	// minHealthPercent, which is 0.
	PanicThreshold *float64 `json:"panicThreshold,omitempty"`
	// SlowStart gives new endpoints less than their share at first, in place of the DestinationRule's warmup; unlike
	// that it is allowed with every policy.
	SlowStart *SlowStart `json:"slowStart,omitempty"`
}

// SlowStart raises the share of an endpoint in the course of Window (Envoy's slow_start_config).
type SlowStart struct {
	// Window is at least 1ms; required.
	Window time.Duration `json:"window,omitempty"`
	// Aggression is above 0 and at most 1000: 1 is linear, more is faster at first. Default 1.
	Aggression float64 `json:"aggression,omitempty"`
	// MinimumPercent is the share at first. Above 0; default 10.
	MinimumPercent float64 `json:"minimumPercent,omitempty"`
}

// OutlierDetection has Envoy's statistical detectors.
type OutlierDetection struct {
	SuccessRate       *SuccessRate       `json:"successRate,omitempty"`
	FailurePercentage *FailurePercentage `json:"failurePercentage,omitempty"`
	// MaxEjectionTime bounds how long an endpoint stays away however often it failed. From 1ms; default 300s, or the
	// base ejection time if that is more.
	MaxEjectionTime time.Duration `json:"maxEjectionTime,omitempty"`
}

// SuccessRate ejects endpoints whose success rate is far below the others'.
type SuccessRate struct {
	// MinimumHosts is how many endpoints must have RequestVolume. From 1; default 5.
	MinimumHosts uint32 `json:"minimumHosts,omitempty"`
	// RequestVolume is how many requests an endpoint must have had in an interval. From 1; default 100.
	RequestVolume uint32 `json:"requestVolume,omitempty"`
	// StdevFactor is how many standard deviations below the mean is too far. Above 0; default 1.9.
	StdevFactor float64 `json:"stdevFactor,omitempty"`
	// EnforcingPercent is the chance that an endpoint found so is ejected. A whole number; default 100.
	EnforcingPercent *float64 `json:"enforcingPercent,omitempty"`
}

// FailurePercentage ejects endpoints that fail more than a share of their requests.
type FailurePercentage struct {
	// Threshold is the share of failures that is too much. A whole number from 1; default 85.
	Threshold float64 `json:"threshold,omitempty"`
	// MinimumHosts is how many endpoints must have RequestVolume. From 1; default 5.
	MinimumHosts uint32 `json:"minimumHosts,omitempty"`
	// RequestVolume is how many requests an endpoint must have had in an interval. From 1; default 50.
	RequestVolume uint32 `json:"requestVolume,omitempty"`
	// EnforcingPercent is the chance that an endpoint found so is ejected. A whole number; default 100.
	EnforcingPercent *float64 `json:"enforcingPercent,omitempty"`
}

// Retry says what else is retried, and when.
type Retry struct {
	// RetriableHeaders are response headers of which any makes an answer be retried, beside the VirtualService's retryOn.
	RetriableHeaders []HeaderCondition `json:"retriableHeaders,omitempty"`
	// ResetHeaders are response headers that say how long to wait before a retry, in place of the backoff. The first
	// that can be read counts.
	ResetHeaders []ResetHeader `json:"resetHeaders,omitempty"`
	// MaxResetInterval is how long a reset header may ask to wait; longer ones are ignored. From 1ms; default 300s.
	MaxResetInterval time.Duration `json:"maxResetInterval,omitempty"`
	// MaxBackoff bounds the backoff, which doubles with each retry. From 1ms; default ten times the VirtualService's
	// backoff.
	MaxBackoff time.Duration `json:"maxBackoff,omitempty"`
}

// HeaderCondition is a condition on a header: at most one of Exact, Prefix and Regex; with none it is there.
type HeaderCondition struct {
	Name   string `json:"name"` // required
	Exact  string `json:"exact,omitempty"`
	Prefix string `json:"prefix,omitempty"`
	Regex  string `json:"regex,omitempty"` // RE2, of the whole value
}

// ResetHeader is a response header that says when to try again.
type ResetHeader struct {
	Name string `json:"name"` // required
	// Format is SECONDS, a number of seconds to wait, or UNIX_TIMESTAMP, the time in seconds since 1970. Default SECONDS.
	Format string `json:"format,omitempty"`
}

// Hedge starts attempts beside others.
type Hedge struct {
	// OnPerTryTimeout starts the next attempt when the VirtualService's perTryTimeout is over, and lets the first go on:
	// the first answer counts.
	OnPerTryTimeout bool `json:"onPerTryTimeout,omitempty"`
}

// SessionAffinity has either Cookie or Header.
type SessionAffinity struct {
	// Cookie carries the endpoint in a cookie that the client keeps.
	Cookie *SessionCookie `json:"cookie,omitempty"`
	// Header carries the endpoint in a header of this name, which callers send back.
	Header string `json:"header,omitempty"`
	// Strict fails requests whose endpoint is gone; otherwise another is chosen.
	Strict bool `json:"strict,omitempty"`
}

// SessionCookie is the cookie of a session.
type SessionCookie struct {
	Name string `json:"name"`           // required
	Path string `json:"path,omitempty"` // begins with "/"; default "/"
	// TTL is in whole seconds; default 0, until the client ends.
	TTL time.Duration `json:"ttl,omitempty"`
}

// Timeouts bound streams.
type Timeouts struct {
	// Idle ends a stream on which nothing was sent or received for so long. From 1ms; default none.
	Idle time.Duration `json:"idle,omitempty"`
	// MaxStreamDuration ends a stream whatever happens on it. From 1ms; default none.
	MaxStreamDuration time.Duration `json:"maxStreamDuration,omitempty"`
	// MaxGRPCTimeout bounds the deadline that a gRPC caller brings. From 1ms; default none.
	MaxGRPCTimeout time.Duration `json:"maxGRPCTimeout,omitempty"`
}

// FaultControl says more about faults.
type FaultControl struct {
	// MaxActive is how many requests have a fault at once; more go through without. From 1; default no limit.
	MaxActive uint32 `json:"maxActive,omitempty"`
	// ByHeader lets requests ask for faults with Envoy's headers x-envoy-fault-delay-request,
	// x-envoy-fault-abort-request and x-envoy-fault-abort-grpc-request, for the share of requests that the VirtualService
	// has faults for.
	ByHeader bool `json:"byHeader,omitempty"`
}

// The values of LoadBalancer.Policy.
const (
	LeastRequest = "LEAST_REQUEST"
	RoundRobin   = "ROUND_ROBIN"
	Random       = "RANDOM"
	PeakEWMA     = "PEAK_EWMA"
)

// The values of ResetHeader.Format.
const (
	ResetSeconds       = "SECONDS"
	ResetUnixTimestamp = "UNIX_TIMESTAMP"
)
