package decode

import (
	"math"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/meshframe/meshframe/mesh/breaker"
	"github.com/meshframe/meshframe/mesh/pick"
	"github.com/meshframe/meshframe/mesh/ratelimit"
	"github.com/meshframe/meshframe/mesh/snapshot"
)

// The metadata by which a control plane says what no standard field does:
// filter_metadata["meshframe"]. See Cluster, RouteConfiguration and Listener for
// its keys; each must be known where it stands.
const (
	extensionNamespace = "meshframe"
	markerError        = "error"
	maxAggression      = 1000 // more is a step
)

// marker is the text by which a control plane refuses a cluster.
func marker(m *corev3.Metadata) string {
	return m.GetFilterMetadata()[extensionNamespace].GetFields()[markerError].GetStringValue()
}

// extension opens our part of a resource's metadata.
func (s *scope) extension(m *corev3.Metadata) *object {
	at := s.at("metadata.filter_metadata[" + extensionNamespace + "]")
	return newObject(at, m.GetFilterMetadata()[extensionNamespace])
}

// noExtension notes our metadata where it has no meaning.
func (s *scope) noExtension(m *corev3.Metadata) {
	if m.GetFilterMetadata()[extensionNamespace] != nil {
		s.at("metadata.filter_metadata[" + extensionNamespace + "]").notef("has no effect here")
	}
}

func (s *scope) clusterExtension(m *clusterv3.Cluster, out *snapshot.Cluster) error {
	o := s.extension(m.GetMetadata())
	o.text(markerError) // empty
	out.Fallback = o.fallback()
	out.HalfOpen = o.halfOpen()
	out.Session = o.session()
	if e := o.object("peak_ewma"); e != nil {
		out.LB.Policy, out.LB.Utilization = pick.PeakEWMA, nil
		out.LB.Decay = e.duration("decay", 10*time.Second)
	}
	if e := o.object("slow_start"); e != nil {
		out.LB.SlowStart = &pick.SlowStart{
			Window:           e.duration("window", 0),
			Aggression:       e.positive("aggression", defaultAggression, maxAggression),
			MinWeightPercent: e.number("minWeightPercent", defaultMinWeightPercent, 0, 100),
		}
	}
	if o.has("subset_size") {
		out.LB.SubsetSize = o.count("subset_size", 0)
	}
	return o.err()
}

func (s *scope) routeExtension(m *corev3.Metadata, out *snapshot.Route) error {
	o := s.extension(m)
	out.Fallback = o.fallback()
	if limit := o.rateLimit(); limit != nil {
		if out.RateLimit != nil {
			o.fail("rate_limit", "stands beside a local_ratelimit of the same route")
		}
		out.RateLimit = limit
	}
	return o.err()
}

func (s *scope) listenerExtension(m *corev3.Metadata, out *snapshot.Listener) error {
	o := s.extension(m)
	if out.Inbound && o.has("max_concurrent") {
		out.MaxConcurrent = o.count("max_concurrent", 0)
	}
	return o.err()
}

// fallback reads exactly one of cluster, reply, grpc and function.
func (o *object) fallback() *snapshot.Fallback {
	f := o.object("fallback")
	if f == nil {
		return nil
	}
	f.oneOf("cluster", "reply", "grpc", "function")
	out := &snapshot.Fallback{Cluster: f.text("cluster"), Func: f.text("function")}
	if r := f.object("reply"); r != nil {
		out.Reply = &snapshot.DirectResponse{Status: int(r.whole("status", 0, minStatus, maxStatus)), Body: r.text("body")}
	}
	if g := f.object("grpc"); g != nil {
		out.GRPC = &snapshot.GRPCReply{Code: int(g.whole("code", 0, 1, 16)), Message: g.text("message")}
	}
	return out
}

func (o *object) halfOpen() *breaker.HalfOpen {
	h := o.object("half_open")
	if h == nil {
		return nil
	}
	return &breaker.HalfOpen{
		MinVolume:    h.count("minVolume", 10),
		ErrorPercent: h.positive("errorPercent", 10, 100),
		Window:       h.duration("window", 10*time.Second),
		OpenFor:      h.duration("openFor", 10*time.Second),
		Probes:       h.count("probes", 3),
	}
}

// session reads exactly one of cookie and header.
func (o *object) session() *snapshot.Session {
	s := o.object("session")
	if s == nil {
		return nil
	}
	s.oneOf("cookie", "header")
	out := &snapshot.Session{Header: strings.ToLower(s.text("header")), Strict: s.flag("strict")}
	if c := s.object("cookie"); c != nil {
		c.require("name")
		out.Cookie, out.Path, out.TTL = c.text("name"), c.text("path"), c.optionalDuration("ttl")
		if out.Path == "" {
			out.Path = "/"
		}
	}
	return out
}

// rateLimit reads a bucket, buckets with keys, or both.
func (o *object) rateLimit() *ratelimit.Policy {
	l := o.object("rate_limit")
	if l == nil {
		return nil
	}
	out := &ratelimit.Policy{
		MaxKeys:  int(l.count("maxKeys", defaultMaxKeys)),
		Enforced: uint32(math.Round(l.number("enforcedPercent", 100, 0, 100) * million / 100)),
		Status:   int(l.whole("status", defaultLimitStatus, minLimitStatus, maxStatus)),
	}
	keyed := l.list("keyed")
	if len(keyed) == 0 || l.has("maxTokens") {
		out.Bucket = l.bucket()
	}
	for _, k := range keyed {
		entry := ratelimit.Keyed{Bucket: k.bucket()}
		parts := k.list("keys")
		if len(parts) == 0 {
			k.fail("keys", "must not be empty")
		}
		for _, p := range parts {
			p.oneOf("header", "source")
			entry.Key = append(entry.Key, ratelimit.KeyPart{
				Header: strings.ToLower(p.text("header")), Source: p.flag("source"), Value: p.text("value"),
			})
		}
		out.Keyed = append(out.Keyed, entry)
	}
	if out.Enforced == 0 {
		return noRateLimit()
	}
	return out
}

func (o *object) bucket() ratelimit.Bucket {
	out := ratelimit.Bucket{
		MaxTokens:     o.count("maxTokens", 0),
		TokensPerFill: o.count("tokensPerFill", 1),
		FillInterval:  o.duration("fillInterval", 0),
	}
	if out.FillInterval < minFillInterval {
		o.fail("fillInterval", "must be at least %v", minFillInterval)
	}
	return out
}
