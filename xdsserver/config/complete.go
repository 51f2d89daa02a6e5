package config

import (
	"cmp"
	"slices"
	"time"
)

// Defaults of a MeshPolicy, beside those that stand in one place only.
const (
	defaultWindow   = 10 * time.Second
	defaultRateKeys = 10_000
	defaultMaxReset = 300 * time.Second
)

// complete returns a copy with every host resolved and every default filled in.
func (s *MeshPolicySpec) complete(namespace, domain string) *MeshPolicySpec {
	out := *s
	out.Host = ResolveHost(s.Host, namespace, domain)
	out.Breaker = completed(s.Breaker, (*Breaker).complete)
	out.Fallback = completed(s.Fallback, func(f *Fallback) {
		f.Destination = completed(f.Destination, func(d *FallbackDestination) {
			d.Host = cmp.Or(ResolveHost(d.Host, namespace, domain), out.Host)
		})
	})
	out.RateLimit = completed(s.RateLimit, func(l *RateLimits) {
		l.Client, l.Server = completed(l.Client, (*RateLimit).complete), completed(l.Server, (*RateLimit).complete)
	})
	out.LoadBalancer = completed(s.LoadBalancer, (*LoadBalancer).complete)
	out.OutlierDetection = completed(s.OutlierDetection, (*OutlierDetection).complete)
	out.Retry = completed(s.Retry, (*Retry).complete)
	out.SessionAffinity = completed(s.SessionAffinity, func(a *SessionAffinity) {
		a.Cookie = completed(a.Cookie, func(c *SessionCookie) { c.Path = cmp.Or(c.Path, "/") })
	})
	return &out
}

// completed changes a copy of a section, if there is one.
func completed[T any](section *T, fill func(*T)) *T {
	if section == nil {
		return nil
	}
	out := *section
	fill(&out)
	return &out
}

func (b *Breaker) complete() {
	b.MinVolume = cmp.Or(b.MinVolume, 10)
	b.ErrorPercent = cmp.Or(b.ErrorPercent, 10)
	b.Window = cmp.Or(b.Window, defaultWindow)
	b.OpenFor = cmp.Or(b.OpenFor, defaultWindow)
	b.Probes = cmp.Or(b.Probes, 3)
}

func (l *RateLimit) complete() {
	l.TokenBucket.complete()
	l.Keyed = slices.Clone(l.Keyed)
	for i := range l.Keyed {
		l.Keyed[i].TokenBucket.complete()
	}
	l.MaxKeys = cmp.Or(l.MaxKeys, defaultRateKeys)
	l.Status = cmp.Or(l.Status, 429)
}

func (b *TokenBucket) complete() {
	if b.MaxTokens > 0 {
		b.TokensPerFill = cmp.Or(b.TokensPerFill, 1)
	}
}

func (l *LoadBalancer) complete() {
	l.Decay = cmp.Or(l.Decay, defaultWindow)
	l.ChoiceCount = cmp.Or(l.ChoiceCount, 2)
	l.SlowStart = completed(l.SlowStart, func(s *SlowStart) {
		s.Aggression = cmp.Or(s.Aggression, 1)
		s.MinimumPercent = cmp.Or(s.MinimumPercent, 10)
	})
}

func (o *OutlierDetection) complete() {
	o.SuccessRate = completed(o.SuccessRate, func(s *SuccessRate) {
		s.MinimumHosts = cmp.Or(s.MinimumHosts, 5)
		s.RequestVolume = cmp.Or(s.RequestVolume, 100)
		s.StdevFactor = cmp.Or(s.StdevFactor, 1.9)
	})
	o.FailurePercentage = completed(o.FailurePercentage, func(f *FailurePercentage) {
		f.Threshold = cmp.Or(f.Threshold, 85)
		f.MinimumHosts = cmp.Or(f.MinimumHosts, 5)
		f.RequestVolume = cmp.Or(f.RequestVolume, 50)
	})
}

func (r *Retry) complete() {
	r.MaxResetInterval = cmp.Or(r.MaxResetInterval, defaultMaxReset)
	r.ResetHeaders = slices.Clone(r.ResetHeaders)
	for i := range r.ResetHeaders {
		r.ResetHeaders[i].Format = cmp.Or(r.ResetHeaders[i].Format, ResetSeconds)
	}
}
