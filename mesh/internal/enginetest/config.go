package enginetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meshframe/meshframe/mesh/breaker"
	"github.com/meshframe/meshframe/mesh/fault"
	"github.com/meshframe/meshframe/mesh/outlier"
	"github.com/meshframe/meshframe/mesh/pick"
	"github.com/meshframe/meshframe/mesh/retry"
	"github.com/meshframe/meshframe/mesh/route"
	"github.com/meshframe/meshframe/mesh/snapshot"
)

// Config is the configuration of one target as the lines of a script built it
// up. What a line does not touch keeps its pointer from one Update to the next.
type Config struct {
	target    string
	listener  *snapshot.Listener
	hosts     []*snapshot.VirtualHost
	changed   bool // hosts, since the last Update
	routes    *snapshot.RouteConfiguration
	all       snapshot.RouteConfiguration // what routes holds beside hosts
	clusters  map[string]*snapshot.Cluster
	endpoints map[string]*snapshot.ClusterLoadAssignment
	missing   map[string]error
}

// NewConfig returns the configuration of a target without any resource.
func NewConfig(target string) *Config {
	return &Config{
		target: target, listener: &snapshot.Listener{Name: target},
		clusters:  map[string]*snapshot.Cluster{},
		endpoints: map[string]*snapshot.ClusterLoadAssignment{},
		missing:   map[string]error{},
	}
}

// Add reads configuration lines; see the package's comment.
func (c *Config) Add(lines string) error {
	for line := range strings.Lines(lines) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if known, err := c.line(line); err != nil || !known {
			return fmt.Errorf("%q: %w", line, errors.Join(err, unknown(known)))
		}
	}
	return nil
}

func unknown(known bool) error {
	if known {
		return nil
	}
	return errors.New("not a configuration line")
}

// Update returns the target's configuration as it is now.
func (c *Config) Update() *snapshot.Update {
	if c.changed || c.routes == nil {
		c.changed = false
		routes := c.all
		routes.Name, routes.VirtualHosts = c.target, slices.Clone(c.hosts)
		c.routes = &routes
	}
	return &snapshot.Update{
		Target: c.target, Authority: c.target, Listener: c.listener, Routes: c.routes,
		Clusters: maps.Clone(c.clusters), Endpoints: maps.Clone(c.endpoints), Missing: maps.Clone(c.missing),
	}
}

// line applies one line; known is false if it is not about configuration.
func (c *Config) line(line string) (known bool, err error) {
	left, right, _ := strings.Cut(line, " -> ")
	w := split(left)
	kind, _ := w.take()
	switch kind {
	case "listener":
		return true, c.setListener(w)
	case "hosts":
		c.hosts, c.changed = nil, true
		return true, nil
	case "all":
		return true, c.setAll(w)
	case "host":
		return true, c.addHost(w)
	case "route":
		return true, c.addRoute(w, split(right))
	case "cluster":
		return true, c.setCluster(w)
	case "endpoints":
		return true, c.setEndpoints(w)
	case "drop-cluster":
		name, err := w.take()
		delete(c.clusters, name)
		delete(c.endpoints, name)
		return true, err
	case "missing":
		name, err := w.take()
		c.missing[name] = errors.New(strings.Join(w.plain, " "))
		return true, err
	}
	return false, nil
}

func (c *Config) setListener(w words) error {
	l := &snapshot.Listener{Name: c.target}
	r := reader{options: w.options}
	r.duration("max_stream_duration", &l.MaxStreamDuration)
	l.RateLimit, l.Session = r.limit(), r.session()
	l.Inbound = w.flag("inbound")
	if w.flag("faults") {
		l.Fault = &fault.Policy{}
	}
	c.listener = l
	return r.finish()
}

// setAll reads what holds for all routes.
func (c *Config) setAll(w words) error {
	r := reader{options: w.options}
	c.all = snapshot.RouteConfiguration{SpecificLast: w.flag("specific-last")}
	c.all.RequestHeaders, c.all.ResponseHeaders = r.edits(""), r.edits("response_")
	c.changed = true
	return r.finish()
}

func (c *Config) addHost(w words) error {
	name, err := w.take()
	if err != nil {
		return err
	}
	r := reader{options: w.options}
	h := &snapshot.VirtualHost{Name: name, AttemptCount: w.flag("attempts")}
	h.Domains = w.plain
	h.Retry, h.Fault, h.Refused = r.retry(), r.fault(), r.refused()
	h.RequestHeaders, h.ResponseHeaders = r.edits(""), r.edits("response_")
	h.RateLimit, h.Mirrors, h.Hash, h.Session = r.limit(), r.mirrors(), r.hash(), r.session()
	c.hosts, c.changed = append(c.hosts, h), true
	return r.finish()
}

func (c *Config) addRoute(match, action words) error {
	if len(c.hosts) == 0 {
		return errors.New("no host to add it to")
	}
	name, err := match.take()
	if err != nil {
		return err
	}
	r := &snapshot.Route{Name: strings.TrimPrefix(name, "-")}
	if r.Match, err = readMatch(match); err != nil {
		return err
	}
	in := reader{options: action.options}
	for _, destination := range action.plain {
		cluster, weight, weighted := strings.Cut(destination, ":")
		d := snapshot.ClusterWeight{Cluster: cluster, Weight: 1}
		if weighted {
			n, err := strconv.ParseUint(weight, 10, 32)
			in.note(err)
			d.Weight = uint32(n)
		}
		d.RequestHeaders = in.edits(cluster + ".")
		d.HostRewrite, _ = in.text(cluster + ".rewrite_host")
		r.Clusters = append(r.Clusters, d)
	}
	in.duration("timeout", &r.Timeout)
	in.duration("longest", &r.Longest)
	r.Retry, r.Fault, r.Refused = in.retry(), in.fault(), in.refused()
	in.actions(r)
	// The host is another one now: hosts that were handed over are not written.
	last := *c.hosts[len(c.hosts)-1]
	last.Routes = append(slices.Clip(last.Routes), r)
	c.hosts = append(slices.Clone(c.hosts[:len(c.hosts)-1]), &last)
	c.changed = true
	return in.finish()
}

func readMatch(w words) (route.Match, error) {
	m := route.Match{IgnoreCase: w.flag("ignore-case")}
	r := reader{options: w.options}
	for key, kind := range map[string]route.PathKind{
		"path": route.PathExact, "prefix": route.PathPrefix, "separated": route.PathSeparatedPrefix,
	} {
		if v, ok := r.text(key); ok {
			m.Path, m.Value = kind, v
		}
	}
	if v, ok := r.text("regex"); ok {
		re, err := route.Anchor(v)
		r.note(err)
		m.Path, m.Regex = route.PathRegex, re
	}
	if v, ok := r.text("fraction"); ok {
		f, err := millionths(v)
		r.note(err)
		m.HasFraction, m.Fraction = true, f
	}
	for _, p := range w.plain {
		h, err := readHeader(p)
		r.note(err)
		m.Headers = append(m.Headers, h)
	}
	return m, r.finish()
}

// readHeader reads name:value, name:~regex, name:^prefix, name:* for any value,
// and the same behind a ! for the opposite.
func readHeader(text string) (route.HeaderMatch, error) {
	var h route.HeaderMatch
	text, h.Invert = strings.CutPrefix(text, "!")
	i := strings.LastIndex(text, ":")
	if i < 1 {
		return h, fmt.Errorf("%q is no header", text)
	}
	h.Name, h.Value = text[:i], text[i+1:]
	switch {
	case h.Value == "*":
		h.Kind, h.Value = route.StringPresent, ""
	case strings.HasPrefix(h.Value, "~"):
		re, err := route.Anchor(h.Value[1:])
		h.Kind, h.Regex, h.Value = route.StringRegex, re, ""
		return h, err
	case strings.HasPrefix(h.Value, "^"):
		h.Kind, h.Value = route.StringPrefix, h.Value[1:]
	}
	return h, nil
}

func (c *Config) setCluster(w words) error {
	name, err := w.take()
	if err != nil {
		return err
	}
	r := reader{options: w.options}
	cluster := &snapshot.Cluster{Name: name, Limits: breaker.NoLimits, Refused: r.refused()}
	if v, ok := r.text("lb"); ok {
		policy, known := map[string]pick.Policy{
			"round_robin": pick.RoundRobin, "random": pick.Random, "least_request": pick.LeastRequest,
			"ring_hash": pick.RingHash, "maglev": pick.Maglev, "peak_ewma": pick.PeakEWMA,
			"client_side_weighted_round_robin": pick.ClientSideWeightedRoundRobin,
		}[v]
		if !known {
			r.note(fmt.Errorf("unknown policy %s", v))
		}
		cluster.LB.Policy = policy
		if policy == pick.ClientSideWeightedRoundRobin {
			cluster.LB.Utilization = &pick.Utilization{Expiration: 3 * time.Minute, Update: time.Second}
		}
	}
	r.number("panic", &cluster.LB.PanicThreshold)
	r.number("max_requests", &cluster.Limits.MaxRequests)
	r.number("max_pending", &cluster.Limits.MaxPendingRequests)
	r.number("max_retries", &cluster.Limits.MaxRetries)
	cluster.Outlier = r.outlier()
	r.budget(&cluster.Limits)
	r.aggregate(cluster)
	cluster.HalfOpen, cluster.Session, cluster.Fallback = r.halfOpen(), r.session(), r.fallback()
	c.clusters[name] = cluster
	return r.finish()
}

func (r *reader) outlier() *outlier.Config {
	o := &outlier.Config{
		MaxEjectionPercent: 10, EnforcingConsecutive5xx: 100, EnforcingConsecutiveGateway: 100,
		EnforcingConsecutiveLocal: 100, SuccessRateStdevFactor: 1900,
	}
	before := *o
	r.number("consecutive", &o.Consecutive5xx)
	r.number("gateway", &o.ConsecutiveGateway)
	r.number("local", &o.ConsecutiveLocalOrigin)
	o.SplitLocalOrigin = o.ConsecutiveLocalOrigin > 0
	r.number("success_rate_volume", &o.SuccessRateRequestVolume)
	if o.SuccessRateRequestVolume > 0 {
		o.EnforcingSuccessRate = 100
	}
	r.number("failure_percentage", &o.FailurePercentageThreshold)
	if o.FailurePercentageThreshold > 0 {
		o.EnforcingFailurePercentage = 100
	}
	r.number("max_ejection", &o.MaxEjectionPercent)
	r.duration("interval", &o.Interval)
	r.duration("base", &o.BaseEjectionTime)
	r.duration("longest", &o.MaxEjectionTime)
	if *o == before {
		return nil
	}
	return o
}

// retry reads retry=CONDITIONS*TIMES, such as 5xx,reset*3.
func (r *reader) retry() *retry.Policy {
	text, ok := r.text("retry")
	if !ok {
		return nil
	}
	on, times, _ := strings.Cut(text, "*")
	n, err := strconv.ParseUint(times, 10, 32)
	r.note(err)
	p := &retry.Policy{NumRetries: uint32(n)}
	var bad []string
	p.On, p.StatusCodes, bad = retry.ParseOn(on)
	if len(bad) > 0 {
		r.note(fmt.Errorf("unknown conditions %q", bad))
	}
	r.duration("per_try", &p.PerTryTimeout)
	r.condition("retry_meets", p)
	return p
}

// condition reads NAME:VALUE, which requests that are tried again have.
func (r *reader) condition(key string, p *retry.Policy) {
	if text, ok := r.text(key); ok {
		name, want, _ := strings.Cut(text, ":")
		p.Meets = func(header func(string) (string, bool)) bool {
			value, _ := header(name)
			return value == want
		}
	}
}

// fault reads delay=2s,50% and abort=503,10%; abort=grpc14 is a gRPC status, and
// header_faults=yes leaves both to the request, for at most half of the calls.
func (r *reader) fault() *fault.Policy {
	p := &fault.Policy{AbortGRPC: -1}
	r.number("max_faults", &p.MaxActive)
	_, headers := r.text("header_faults")
	if headers {
		p.HeaderDelay, p.HeaderAbort = true, true
		p.DelayFraction, p.AbortFraction = fault.Million/2, fault.Million/2
	}
	delay, delays := r.text("delay")
	abort, aborts := r.text("abort")
	if delays {
		options := map[string]string{}
		options["delay"], p.DelayFraction = r.fraction(delay)
		inner := reader{options: options}
		inner.duration("delay", &p.Delay)
		r.note(inner.err)
	}
	if aborts {
		status, fraction := r.fraction(abort)
		p.AbortFraction = fraction
		code, isGRPC := strings.CutPrefix(status, "grpc")
		n, err := strconv.Atoi(code)
		r.note(err)
		if isGRPC {
			p.AbortGRPC = n
		} else {
			p.AbortHTTP = n
		}
	}
	if _, none := r.text("nofault"); !delays && !aborts && !none && !headers {
		return nil
	}
	return p
}

func (r *reader) fraction(text string) (string, fault.Fraction) {
	what, percent, _ := strings.Cut(text, ",")
	f, err := millionths(percent)
	r.note(err)
	return what, fault.Fraction(f)
}

// refused reads refused="why" and denied="why".
func (r *reader) refused() error {
	if why, ok := r.text("refused"); ok {
		return errors.New(why)
	}
	if why, ok := r.text("denied"); ok {
		return denial(why)
	}
	return nil
}

// denial is a refusal that forbids the last good version.
type denial string

func (d denial) Error() string { return string(d) }

func (d denial) Deny() bool { return true }

func (c *Config) setEndpoints(w words) error {
	name, err := w.take()
	if err != nil {
		return err
	}
	r := reader{options: w.options}
	a := &snapshot.ClusterLoadAssignment{Name: name, Refused: r.refused()}
	for _, text := range w.plain {
		l, err := readEndpoint(text)
		r.note(err)
		a.Localities = append(a.Localities, l)
	}
	c.endpoints[name] = a
	return r.finish()
}

// readEndpoint reads an address with options, each behind a comma: weight 3,
// priority 1 and a health, as in 10.0.0.1:80,w3,p1,unhealthy.
func readEndpoint(text string) (snapshot.LocalityEndpoints, error) {
	parts := strings.Split(text, ",")
	e := snapshot.Endpoint{Address: parts[0], Weight: 1}
	var l snapshot.LocalityEndpoints
	for _, option := range parts[1:] {
		switch n, err := strconv.ParseUint(option[1:], 10, 32); {
		case option == "unhealthy":
			e.Health = snapshot.Unhealthy
		case option == "draining":
			e.Health = snapshot.Draining
		case option == "degraded":
			e.Health = snapshot.Degraded
		case option[0] == 'w' && err == nil:
			e.Weight = uint32(n)
		case option[0] == 'p' && err == nil:
			l.Priority = uint32(n)
		default:
			return l, fmt.Errorf("unknown endpoint option %q", option)
		}
	}
	l.Endpoints = []snapshot.Endpoint{e}
	return l, nil
}
