package config

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Limits of the values of a MeshPolicy.
const (
	shortestWindow = 100 * time.Millisecond
	longestWindow  = time.Hour
	longestDecay   = 10 * time.Minute
	shortestFill   = 50 * time.Millisecond // Envoy's
	maxReplyBody   = 64 << 10
	maxGRPCMessage = 4 << 10
	maxChoices     = 100
	maxAggression  = 1000
)

func checkMeshPolicy(r *reader, v any) {
	s := v.(*MeshPolicySpec)
	switch {
	case s.Host == "":
		r.errorf("spec.host", "missing, but required")
	case isWildcard(s.Host) && s.Host != "*" && !strings.HasPrefix(s.Host, "*."):
		r.errorf("spec.host", "wildcards stand for whole parts of a name: write *.example.com")
	case !isIP(s.Host):
		r.judge("spec.host", badHost(s.Host))
	}
	if s.Subset != "" {
		r.judge("spec.subset", badSubset(s.Subset))
	}
	if r.has("spec.port") {
		r.judge("spec.port", badPort(s.Port))
	}
	checkExportTo(r, s.ExportTo, false)
	checkPolicySections(r, s)
}

func checkPolicySections(r *reader, s *MeshPolicySpec) {
	if len(s.sections()) == 0 && s.RateLimit == nil {
		r.errorf("spec", "says nothing about its host: want breaker, fallback, rateLimit or another section")
	}
	checkBreaker(r, s.Breaker)
	checkFallback(r, s.Fallback)
	checkRateLimits(r, s.RateLimit)
	checkFromOne(r, "spec.maxConcurrentRequests", s.MaxConcurrentRequests)
	checkBalancer(r, s.LoadBalancer)
	checkDetectors(r, s.OutlierDetection)
	checkRetryPolicy(r, s.Retry)
	checkAffinity(r, s.SessionAffinity)
	checkTimeouts(r, s.Timeouts)
	checkFaultControl(r, s.Fault)
	if s.Subset == "" {
		return
	}
	const whole = "is for servers, which do not know of subsets: write it in a policy without subset"
	if s.MaxConcurrentRequests != 0 {
		r.errorf("spec.maxConcurrentRequests", whole)
	}
	if s.RateLimit != nil && s.RateLimit.Server != nil {
		r.errorf("spec.rateLimit.server", whole)
	}
}

// sections names the sections that a policy has, in the order of the struct.
func (s *MeshPolicySpec) sections() []string {
	var out []string
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"breaker", s.Breaker != nil},
		{"fallback", s.Fallback != nil},
		{"rateLimit.client", s.RateLimit != nil && s.RateLimit.Client != nil},
		{"rateLimit.server", s.RateLimit != nil && s.RateLimit.Server != nil},
		{"maxConcurrentRequests", s.MaxConcurrentRequests != 0},
		{"loadBalancer", s.LoadBalancer != nil},
		{"outlierDetection", s.OutlierDetection != nil},
		{"retry", s.Retry != nil},
		{"hedge", s.Hedge != nil},
		{"sessionAffinity", s.SessionAffinity != nil},
		{"timeouts", s.Timeouts != nil},
		{"fault", s.Fault != nil},
	} {
		if f.set {
			out = append(out, f.name)
		}
	}
	return out
}

// has reports whether the object has a field, whatever it holds.
func (r *reader) has(path string) bool {
	n := r.meta.Source.node
	for _, s := range segments(path) {
		if n = child(n, s); n == nil {
			return false
		}
	}
	return !isNull(n)
}

// checkFromOne reports a count that is written and 0.
func checkFromOne(r *reader, path string, n uint32) {
	if n == 0 && r.has(path) {
		r.errorf(path, "want 1 or more, have 0")
	}
}

// checkSpan reports a duration that is written and outside of its range; longest 0 is no limit.
func checkSpan(r *reader, path string, d, shortest, longest time.Duration) {
	switch {
	case !r.has(path):
	case d < shortest:
		r.errorf(path, "want at least %s, have %s", shortest, d)
	case longest > 0 && d > longest:
		r.errorf(path, "want at most %s, have %s", longest, d)
	}
}

// checkShare reports a percentage that is written and not above 0.
func checkShare(r *reader, path string, p float64) {
	switch {
	case !r.has(path):
	case p <= 0:
		r.errorf(path, "want more than 0, have %v", p)
	default:
		r.judge(path, badPercent(p))
	}
}

// checkWholePercent checks a percentage that goes over the wire as a whole number.
func checkWholePercent(r *reader, path string, p *float64) {
	switch {
	case p == nil:
	case *p != math.Trunc(*p):
		r.errorf(path, "want a whole number, have %v", *p)
	default:
		r.judge(path, badPercent(*p))
	}
}

func checkBreaker(r *reader, b *Breaker) {
	if b == nil {
		return
	}
	const path = "spec.breaker"
	checkFromOne(r, path+".minVolume", b.MinVolume)
	checkShare(r, path+".errorPercent", b.ErrorPercent)
	checkSpan(r, path+".window", b.Window, shortestWindow, longestWindow)
	checkSpan(r, path+".openFor", b.OpenFor, shortestWindow, longestWindow)
	checkFromOne(r, path+".probes", b.Probes)
}

func checkFallback(r *reader, f *Fallback) {
	if f == nil {
		return
	}
	const path = "spec.fallback"
	set := 0
	for _, is := range []bool{f.Reply != nil, f.GRPC != nil, f.Destination != nil, f.Function != ""} {
		if is {
			set++
		}
	}
	if set != 1 {
		r.errorf(path, "want one of reply, grpc, destination, function, have %d of them", set)
	}
	if f.Reply != nil {
		r.judge(path+".reply.status", badHTTPStatus(int64(f.Reply.Status)))
		checkLength(r, path+".reply.body", f.Reply.Body, maxReplyBody)
	}
	if f.GRPC != nil {
		checkGRPCStatus(r, path+".grpc", f.GRPC)
	}
	if d := f.Destination; d != nil {
		checkFallbackDestination(r, path+".destination", d)
	}
}

func checkLength(r *reader, path, s string, most int) {
	if len(s) > most {
		r.errorf(path, "has %d bytes, at most %d are allowed", len(s), most)
	}
}

func checkGRPCStatus(r *reader, path string, g *GRPCStatus) {
	switch {
	case g.Code == "":
		r.errorf(path+".code", "missing, but required")
	case g.Code == "OK":
		r.errorf(path+".code", "a call that succeeds has an answer: want another status than OK")
	default:
		r.judge(path+".code", badGRPCStatus(g.Code))
	}
	checkLength(r, path+".message", g.Message, maxGRPCMessage)
}

func checkFallbackDestination(r *reader, path string, d *FallbackDestination) {
	if *d == (FallbackDestination{}) {
		r.errorf(path, "want host, subset or port")
	}
	switch {
	case isWildcard(d.Host):
		r.errorf(path+".host", "a wildcard is no destination")
	case d.Host != "" && !isIP(d.Host):
		r.judge(path+".host", badFQDN(d.Host))
	}
	if d.Subset != "" {
		r.judge(path+".subset", badSubset(d.Subset))
	}
	if r.has(path + ".port") {
		r.judge(path+".port", badPort(d.Port))
	}
}

func checkRateLimits(r *reader, l *RateLimits) {
	if l == nil {
		return
	}
	if l.Client == nil && l.Server == nil {
		r.errorf("spec.rateLimit", "want client or server")
	}
	checkRateLimit(r, "spec.rateLimit.client", l.Client)
	checkRateLimit(r, "spec.rateLimit.server", l.Server)
}

func checkRateLimit(r *reader, path string, l *RateLimit) {
	if l == nil {
		return
	}
	bucket := r.has(path+".maxTokens") || r.has(path+".tokensPerFill") || r.has(path+".fillInterval")
	if bucket {
		checkBucket(r, path, l.TokenBucket)
	} else if len(l.Keyed) == 0 {
		r.errorf(path, "limits nothing: want maxTokens and fillInterval, or keyed")
	}
	for i, k := range l.Keyed {
		at := element(path+".keyed", i)
		checkBucket(r, at, k.TokenBucket)
		if len(k.Keys) == 0 {
			r.errorf(at+".keys", "missing, but required")
		}
		for j, key := range k.Keys {
			checkRateKey(r, element(at+".keys", j), key)
		}
	}
	checkFromOne(r, path+".maxKeys", l.MaxKeys)
	if l.EnforcedPercent != nil {
		r.judge(path+".enforcedPercent", badPercent(*l.EnforcedPercent))
	}
	if r.has(path+".status") && (l.Status < 400 || l.Status > 599) {
		r.errorf(path+".status", "want an HTTP status from 400 to 599, have %d", l.Status)
	}
}

func checkBucket(r *reader, path string, b TokenBucket) {
	switch {
	case !r.has(path + ".maxTokens"):
		r.errorf(path+".maxTokens", "missing, but required")
	case b.MaxTokens == 0:
		r.errorf(path+".maxTokens", "want 1 or more, have 0")
	}
	checkFromOne(r, path+".tokensPerFill", b.TokensPerFill)
	if !r.has(path + ".fillInterval") {
		r.errorf(path+".fillInterval", "missing, but required")
	}
	checkSpan(r, path+".fillInterval", b.FillInterval, shortestFill, 0)
}

func checkRateKey(r *reader, path string, k RateKey) {
	switch {
	case (k.Header == "") != k.Source:
		r.errorf(path, "want either header or source: true")
	case k.Header != "":
		r.judge(path+".header", badHeaderName(k.Header))
	case k.Value != "" && !isIP(k.Value):
		r.errorf(path+".value", "want an IP address, have %q", shorten(k.Value))
	}
}

func checkBalancer(r *reader, l *LoadBalancer) {
	if l == nil {
		return
	}
	const path = "spec.loadBalancer"
	policies := []string{LeastRequest, RoundRobin, Random, PeakEWMA}
	r.judge(path+".policy", badChoice(l.Policy, policies))
	checkSpan(r, path+".decay", l.Decay, shortestWindow, longestDecay)
	if r.has(path+".choiceCount") && (l.ChoiceCount < 2 || l.ChoiceCount > maxChoices) {
		r.errorf(path+".choiceCount", "want from 2 to %d, have %d", maxChoices, l.ChoiceCount)
	}
	if b := l.ActiveRequestBias; b != nil && *b < 0 {
		r.errorf(path+".activeRequestBias", "want 0 or more, have %v", *b)
	}
	checkFromOne(r, path+".subsetSize", l.SubsetSize)
	checkWholePercent(r, path+".panicThreshold", l.PanicThreshold)
	for _, f := range []struct{ name, policy string }{{"decay", PeakEWMA}, {"choiceCount", LeastRequest}, {"activeRequestBias", LeastRequest}} {
		if l.Policy != "" && l.Policy != f.policy && r.has(path+"."+f.name) {
			r.errorf(path+"."+f.name, "goes with the policy %s only", f.policy)
		}
	}
	if s := l.SlowStart; s != nil {
		if !r.has(path + ".slowStart.window") {
			r.errorf(path+".slowStart.window", "missing, but required")
		}
		checkSpan(r, path+".slowStart.window", s.Window, time.Millisecond, 0)
		if r.has(path+".slowStart.aggression") && (s.Aggression <= 0 || s.Aggression > maxAggression) {
			r.errorf(path+".slowStart.aggression", "want more than 0 and at most %d, have %v", maxAggression, s.Aggression)
		}
		checkShare(r, path+".slowStart.minimumPercent", s.MinimumPercent)
	}
}

// badChoice judges a value of which there are only some; "" is the default.
func badChoice(s string, choices []string) string {
	if s == "" || slices.Contains(choices, s) {
		return ""
	}
	if near := nearest(s, choices); near != "" {
		return fmt.Sprintf("unknown value %q; did you mean %s?", shorten(s), near)
	}
	return fmt.Sprintf("want one of %s, have %q", strings.Join(choices, ", "), shorten(s))
}

func checkDetectors(r *reader, o *OutlierDetection) {
	if o == nil {
		return
	}
	const path = "spec.outlierDetection"
	if o.SuccessRate == nil && o.FailurePercentage == nil && o.MaxEjectionTime == 0 {
		r.errorf(path, "is empty: want successRate, failurePercentage or maxEjectionTime")
	}
	checkSpan(r, path+".maxEjectionTime", o.MaxEjectionTime, time.Millisecond, 0)
	if s := o.SuccessRate; s != nil {
		at := path + ".successRate"
		checkFromOne(r, at+".minimumHosts", s.MinimumHosts)
		checkFromOne(r, at+".requestVolume", s.RequestVolume)
		if r.has(at+".stdevFactor") && s.StdevFactor <= 0 {
			r.errorf(at+".stdevFactor", "want more than 0, have %v", s.StdevFactor)
		}
		checkWholePercent(r, at+".enforcingPercent", s.EnforcingPercent)
	}
	if f := o.FailurePercentage; f != nil {
		at := path + ".failurePercentage"
		if r.has(at + ".threshold") {
			checkShare(r, at+".threshold", f.Threshold)
			checkWholePercent(r, at+".threshold", &f.Threshold)
		}
		checkFromOne(r, at+".minimumHosts", f.MinimumHosts)
		checkFromOne(r, at+".requestVolume", f.RequestVolume)
		checkWholePercent(r, at+".enforcingPercent", f.EnforcingPercent)
	}
}

func checkRetryPolicy(r *reader, p *Retry) {
	if p == nil {
		return
	}
	const path = "spec.retry"
	for i, h := range p.RetriableHeaders {
		at := element(path+".retriableHeaders", i)
		r.judge(at+".name", badHeaderName(h.Name))
		set := 0
		for _, s := range []string{h.Exact, h.Prefix, h.Regex} {
			if s != "" {
				set++
			}
		}
		if set > 1 {
			r.errorf(at, "want one of exact, prefix, regex, have %d of them", set)
		}
		if h.Regex != "" {
			r.judge(at+".regex", badRegex(h.Regex))
		}
	}
	for i, h := range p.ResetHeaders {
		at := element(path+".resetHeaders", i)
		r.judge(at+".name", badHeaderName(h.Name))
		r.judge(at+".format", badChoice(h.Format, []string{ResetSeconds, ResetUnixTimestamp}))
	}
	if len(p.ResetHeaders) == 0 && p.MaxResetInterval != 0 {
		r.errorf(path+".maxResetInterval", "goes with resetHeaders only")
	}
	checkSpan(r, path+".maxResetInterval", p.MaxResetInterval, time.Millisecond, 0)
	checkSpan(r, path+".maxBackoff", p.MaxBackoff, time.Millisecond, 0)
}

func checkAffinity(r *reader, a *SessionAffinity) {
	if a == nil {
		return
	}
	const path = "spec.sessionAffinity"
	if (a.Cookie == nil) == (a.Header == "") {
		r.errorf(path, "want either cookie or header")
	}
	if a.Header != "" {
		r.judge(path+".header", badHeaderName(a.Header))
	}
	c := a.Cookie
	if c == nil {
		return
	}
	switch {
	case c.Name == "":
		r.errorf(path+".cookie.name", "missing, but required")
	case badHeaderName(c.Name) != "": // both are tokens of HTTP
		r.errorf(path+".cookie.name", "%q is no name of a cookie", shorten(c.Name))
	}
	if c.Path != "" && !strings.HasPrefix(c.Path, "/") {
		r.errorf(path+".cookie.path", "want a path that begins with /, have %q", shorten(c.Path))
	}
	switch {
	case c.TTL < 0:
		r.errorf(path+".cookie.ttl", "want 0s or more, have %s", c.TTL)
	case c.TTL%time.Second != 0:
		r.errorf(path+".cookie.ttl", "want whole seconds, have %s", c.TTL)
	}
}

func checkTimeouts(r *reader, t *Timeouts) {
	if t == nil {
		return
	}
	checkSpan(r, "spec.timeouts.idle", t.Idle, time.Millisecond, 0)
	checkSpan(r, "spec.timeouts.maxStreamDuration", t.MaxStreamDuration, time.Millisecond, 0)
	checkSpan(r, "spec.timeouts.maxGRPCTimeout", t.MaxGRPCTimeout, time.Millisecond, 0)
}

func checkFaultControl(r *reader, f *FaultControl) {
	if f != nil {
		checkFromOne(r, "spec.fault.maxActive", f.MaxActive)
	}
}
