package enginetest

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meshframe/meshframe/mesh"
	"github.com/meshframe/meshframe/mesh/outcome"
	"github.com/meshframe/meshframe/mesh/pick"
	"github.com/meshframe/meshframe/mesh/snapshot"
)

// Rand returns a source of random numbers that is the same in every run.
func Rand(seed uint64) func() uint64 {
	return rand.New(rand.NewPCG(seed, seed)).Uint64
}

// script is an engine with the world around it: targets, connections, a clock.
type script struct {
	rnd     func() uint64
	engine  *mesh.Engine
	now     time.Time
	configs map[string]*Config
	current *Config
	applied map[string]*snapshot.Snapshot
	conns   map[string]pick.ConnState
	pickers map[*snapshot.Upstream]*pick.Picker
	last    lastCall
	ejected []string // as last told
}

// lastCall is what a report is about.
type lastCall struct {
	decision mesh.Decision
	host     int
}

func newScript() *script {
	rnd := Rand(1)
	s := &script{
		rnd: rnd, engine: mesh.New(mesh.Options{Rand: rnd}), now: time.Unix(0, 0),
		configs: map[string]*Config{}, applied: map[string]*snapshot.Snapshot{},
		conns: map[string]pick.ConnState{}, pickers: map[*snapshot.Upstream]*pick.Picker{},
	}
	s.setTarget("reviews:9080")
	return s
}

func (s *script) setTarget(name string) {
	if s.configs[name] == nil {
		s.configs[name] = NewConfig(name)
	}
	s.current = s.configs[name]
}

func (s *script) snapshot() *snapshot.Snapshot { return s.applied[s.current.target] }

// run does one command and returns the lines it answers.
func (s *script) run(line string) ([]string, error) {
	if known, err := s.current.line(line); known || err != nil {
		return nil, err
	}
	w := split(line)
	name, _ := w.take()
	do, ok := map[string]func(words) ([]string, error){
		"target": s.target, "apply": s.apply, "forget": s.forget, "names": s.names, "states": s.states,
		"call": s.call, "calls": s.calls, "faults": s.faults, "report": s.report, "tick": s.tick,
		"conn": s.conn, "pick": s.pick, "try": s.try, "done": s.done,
		"admit": s.admit, "mirrors": s.mirrors, "fallback": s.fallback, "gate": s.gate,
		"behind": s.behind, "hash": s.hash, "bind": s.bind,
	}[name]
	if !ok {
		return nil, fmt.Errorf("unknown command %q", name)
	}
	return do(w)
}

func (s *script) target(w words) ([]string, error) {
	name, err := w.take()
	s.setTarget(name)
	return nil, err
}

func (s *script) apply(words) ([]string, error) {
	before := s.snapshot()
	snap := s.engine.Apply(s.current.Update())
	s.applied[s.current.target] = snap
	s.engine.Tick(s.now)
	out := []string{fmt.Sprintf("generation %d", snap.Generation)}
	for _, u := range snap.Upstreams {
		state := fmt.Sprintf("%d hosts", len(u.Hosts))
		if u.Err != nil {
			state = u.Err.Error()
		}
		if before != nil && slices.Contains(before.Upstreams, u) {
			state += ", as before"
		} else {
			s.connect(u)
		}
		out = append(out, u.Name+": "+state)
	}
	return append(out, s.ejections()...), nil
}

// connect makes the picker of an upstream; hosts are ready unless conn said
// otherwise.
func (s *script) connect(u *snapshot.Upstream) {
	conns := make([]pick.ConnState, len(u.Hosts))
	for i := range u.Hosts {
		conns[i] = pick.Ready
		if state, ok := s.conns[u.Hosts[i].Address]; ok {
			conns[i] = state
		}
	}
	s.pickers[u] = u.NewPicker(conns)
}

func (s *script) forget(words) ([]string, error) {
	s.engine.Drop(s.current.target)
	delete(s.applied, s.current.target)
	delete(s.configs, s.current.target)
	s.setTarget(s.current.target)
	return nil, nil
}

func (s *script) names(words) ([]string, error) {
	u := s.current.Update()
	return []string{strings.Join(snapshot.ClusterNames(s.snapshot(), u.Listener, u.Routes, u.Authority), " ")}, nil
}

func (s *script) states(words) ([]string, error) {
	return []string{fmt.Sprintf("%d clusters have state", s.engine.Clusters())}, nil
}

// requestOf reads the words of a call.
func requestOf(w words) (*mesh.Request, error) {
	r := &mesh.Request{Method: "POST", Scheme: "http", IsGRPC: !w.flag("http"), Authority: w.options["authority"]}
	headers := Headers{}
	if ip, ok := w.options["from"]; ok {
		r.Source = source(ip)
	}
	for _, p := range w.plain {
		if p[0] == '/' {
			r.Path = p
		} else if name, value, isHeader := strings.Cut(p, ":"); isHeader {
			headers[name] = value
		} else {
			r.Method = p
		}
	}
	r.Headers = headers
	if r.Path == "" {
		return nil, errors.New("no path")
	}
	return r, nil
}

// source is the caller of a request.
type source string

func (s source) SourceIP() string { return string(s) }

// Headers is a map that answers header lookups.
type Headers map[string]string

// Header returns the value of a header.
func (h Headers) Header(name string) (string, bool) {
	v, ok := h[name]
	return v, ok
}

// decide decides and picks one call, which it ends at once.
func (s *script) decide(r *mesh.Request) (d mesh.Decision, host int, v pick.Verdict) {
	s.engine.Decide(s.snapshot(), r, &d)
	if d.Err != nil || d.Upstream == nil {
		return d, -1, pick.NoHosts
	}
	p := s.pickers[d.Upstream]
	in := &pick.Input{Rand: s.rnd, Now: s.now, Hash: d.Hash, HasHash: d.HasHash}
	if d.Selection != nil {
		in.Override = d.Upstream.Override(d.Selection.SessionHost)
	}
	host, v = p.Pick(in)
	if v == pick.Picked {
		p.Done(host)
	}
	return d, host, v
}

func (s *script) call(w words) ([]string, error) {
	asking := w.flag("asking")
	r, err := requestOf(w)
	if err != nil {
		return nil, err
	}
	d, host, v := s.decide(r)
	if asking {
		d.Override(r)
	}
	s.last = lastCall{d, host}
	return append([]string{describe(&d, host, v)}, tell(r, &d)...), nil
}

// describe writes a decision and its pick on one line.
func describe(d *mesh.Decision, host int, v pick.Verdict) string {
	if d.Err != nil {
		return "error: " + d.Err.Error()
	}
	out := fmt.Sprintf("route %q of %s", d.Route.Name, d.VirtualHost())
	switch {
	case d.Upstream == nil:
		out += ", no cluster"
	case v == pick.Picked:
		out += ", cluster " + d.Upstream.Name + ", host " + d.Upstream.Hosts[host].Address
	default:
		out += ", cluster " + d.Upstream.Name + ", " + v.String()
	}
	if d.Timeout > 0 {
		out += fmt.Sprintf(", timeout %v", d.Timeout)
	}
	if d.Retry != nil {
		out += fmt.Sprintf(", up to %d retries", d.Retry.NumRetries)
		if d.Retry.PerTryTimeout > 0 {
			out += fmt.Sprintf(", %v each", d.Retry.PerTryTimeout)
		}
	}
	if d.Fault != nil {
		out += ", may be given faults"
	}
	if d.AttemptCount {
		out += ", attempts counted"
	}
	return out
}

func (s *script) calls(w words) ([]string, error) {
	return s.many(w, func(r *mesh.Request) []string {
		d, host, v := s.decide(r)
		switch {
		case d.Err != nil:
			return []string{"error"}
		case v != pick.Picked:
			return []string{"cluster " + d.Upstream.Name, v.String()}
		}
		return []string{"cluster " + d.Upstream.Name, "host " + d.Upstream.Hosts[host].Address}
	})
}

func (s *script) faults(w words) ([]string, error) {
	hold := w.flag("hold")
	return s.many(w, func(r *mesh.Request) []string {
		d, _, _ := s.decide(r)
		if d.Fault == nil {
			return []string{"none"}
		}
		delay, abort, active := d.Fault.DrawFor(r.Headers, s.rnd)
		if active && !hold {
			d.Fault.Done()
		}
		var what []string
		if delay > 0 {
			what = append(what, "delay "+delay.String())
		}
		switch {
		case abort.HTTP > 0:
			what = append(what, fmt.Sprintf("abort %d", abort.HTTP))
		case !abort.None():
			what = append(what, fmt.Sprintf("abort grpc %d", abort.GRPC))
		}
		if len(what) == 0 {
			what = append(what, "none")
		}
		return []string{strings.Join(what, " and ")}
	})
}

// many does N calls and counts what they answer.
func (s *script) many(w words, one func(*mesh.Request) []string) ([]string, error) {
	count, err := w.take()
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(count)
	if err != nil {
		return nil, err
	}
	r, err := requestOf(w)
	if err != nil {
		return nil, err
	}
	counts := map[string]int{}
	for range n {
		for _, what := range one(r) {
			counts[what]++
		}
	}
	var out []string
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		out = append(out, fmt.Sprintf("%s: %d", what, counts[what]))
	}
	return out, nil
}

// results are the attempts that a report may tell of, by name.
var results = map[string]outcome.Attempt{
	"connect-failure": {Conditions: outcome.ConnectFailure, LocalOrigin: true},
	"reset":           {Conditions: outcome.Reset, LocalOrigin: true},
	"refused-stream":  {Conditions: outcome.RefusedStream},
	"timeout":         {HTTPStatus: 504, Conditions: outcome.PerTryTimeout, LocalOrigin: true},
	"overflow":        {HTTPStatus: 503, Conditions: outcome.Overflow, LocalOrigin: true},
	"unavailable":     {HTTPStatus: 503, GRPCStatus: 14, Conditions: outcome.Server5xx | outcome.GatewayError | outcome.GRPCUnavailable},
}

func (s *script) report(w words) ([]string, error) {
	n := w.times()
	name, err := w.take()
	if err != nil {
		return nil, err
	}
	a, ok := results[name]
	if !ok {
		status, err := strconv.ParseInt(name, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("unknown result %q", name)
		}
		a = answer(int32(status))
	}
	d, host := &s.last.decision, s.last.host
	if d.Upstream == nil {
		return nil, errors.New("there was no call")
	}
	if on, ok := w.options["on"]; ok {
		host = slices.IndexFunc(d.Upstream.Hosts, func(h snapshot.Host) bool { return h.Address == on })
	}
	for range n {
		s.engine.Report(d.Upstream, host, &a, s.now)
	}
	out := s.ejections()
	if d.Retry != nil {
		out = append(out, fmt.Sprintf("to be retried: %v", d.Retry.Retriable(&a)))
	}
	return out, nil
}

// answer is an attempt that the upstream answered.
func answer(status int32) outcome.Attempt {
	a := outcome.Attempt{HTTPStatus: status, GRPCStatus: -1}
	if status >= 500 {
		a.Conditions |= outcome.Server5xx
	}
	if status >= 502 && status <= 504 {
		a.Conditions |= outcome.GatewayError
	}
	if status == 409 {
		a.Conditions |= outcome.Retriable4xx
	}
	return a
}

// ejections tells which hosts are ejected, if that is not what it told last.
func (s *script) ejections() []string {
	var ejected []string
	for _, snap := range s.applied {
		for _, u := range snap.Upstreams {
			for i := range u.Hosts {
				if u.Hosts[i].State.Ejected.Load() {
					ejected = append(ejected, u.Hosts[i].Address)
				}
			}
		}
	}
	slices.Sort(ejected)
	ejected = slices.Compact(ejected)
	if slices.Equal(ejected, s.ejected) {
		return nil
	}
	s.ejected = ejected
	return []string{"ejected: " + cmp.Or(strings.Join(ejected, " "), "none")}
}

func (s *script) tick(w words) ([]string, error) {
	text, err := w.take()
	if err != nil {
		return nil, err
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return nil, err
	}
	var out []string
	start, end := s.now, s.now.Add(d)
	for {
		next, _ := s.engine.Tick(s.now)
		for _, line := range s.ejections() {
			out = append(out, fmt.Sprintf("after %v %s", s.now.Sub(start), line))
		}
		if next.IsZero() || next.After(end) {
			break
		}
		s.now = next
	}
	s.now = end
	return out, nil
}

func (s *script) conn(w words) ([]string, error) {
	address, err := w.take()
	if err != nil {
		return nil, err
	}
	state, err := w.take()
	if err != nil {
		return nil, err
	}
	conn, ok := map[string]pick.ConnState{
		"idle": pick.Idle, "connecting": pick.Connecting, "ready": pick.Ready, "failed": pick.Failed,
	}[state]
	if !ok {
		return nil, fmt.Errorf("unknown state %q", state)
	}
	s.conns[address] = conn
	for _, snap := range s.applied {
		for _, u := range snap.Upstreams {
			s.connect(u)
		}
	}
	return nil, nil
}

func (s *script) upstream(w *words) (*snapshot.Upstream, error) {
	name, err := w.take()
	if err != nil {
		return nil, err
	}
	for _, u := range s.snapshot().Upstreams {
		if u.Name == name {
			return u, nil
		}
	}
	return nil, fmt.Errorf("no cluster %q", name)
}

func (s *script) pick(w words) ([]string, error) {
	n, hold := w.times(), w.flag("hold")
	u, err := s.upstream(&w)
	if err != nil {
		return nil, err
	}
	in := &pick.Input{Rand: s.rnd}
	if address, ok := w.options["tried"]; ok {
		in.MaxRepicks = 5
		for i := range u.Hosts {
			if u.Hosts[i].Address == address {
				in.Tried = append(in.Tried, &u.Hosts[i].State.HostState)
			}
		}
	}
	var out []string
	for range n {
		host, v := s.pickers[u].Pick(in)
		switch {
		case v == pick.Picked && !hold:
			s.pickers[u].Done(host)
			fallthrough
		case v == pick.Picked:
			out = append(out, u.Hosts[host].Address)
		case v == pick.Connect:
			out = append(out, "connect "+u.Hosts[host].Address)
		default:
			out = append(out, v.String())
		}
	}
	return []string{strings.Join(out, ", ")}, nil
}

func (s *script) try(w words) ([]string, error) {
	n := w.times()
	kind, err := w.take()
	if err != nil {
		return nil, err
	}
	u, err := s.upstream(&w)
	if err != nil {
		return nil, err
	}
	b, limits := &u.State.Breaker, &u.Cluster.Limits
	try := map[string]func() bool{
		"request": func() bool {
			admitted := b.TryRequest(limits, 0)
			if admitted {
				b.Began(limits, s.now)
			}
			return admitted
		},
		"pending": func() bool { return b.TryPending(limits) },
		"retry":   func() bool { return b.TryRetry(limits, s.now) },
	}[kind]
	if try == nil {
		return nil, fmt.Errorf("unknown kind %q", kind)
	}
	admitted := 0
	for range n {
		if try() {
			admitted++
		}
	}
	return []string{fmt.Sprintf("%d admitted, %d refused", admitted, n-admitted)}, nil
}

func (s *script) done(w words) ([]string, error) {
	n := w.times()
	kind, err := w.take()
	if err != nil {
		return nil, err
	}
	u, err := s.upstream(&w)
	if err != nil {
		return nil, err
	}
	b := &u.State.Breaker
	done := map[string]func(){"request": func() { b.DoneRequest(&u.Cluster.Limits, 0) }, "pending": b.DonePending, "retry": b.DoneRetry}[kind]
	if done == nil {
		return nil, fmt.Errorf("unknown kind %q", kind)
	}
	for range n {
		done()
	}
	return nil, nil
}
