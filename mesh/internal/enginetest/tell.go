package enginetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/meshframe/meshframe/mesh"
	"github.com/meshframe/meshframe/mesh/breaker"
	"github.com/meshframe/meshframe/mesh/snapshot"
)

// This file writes what is decided beside a route and a host.

// tell writes the actions of a call, one line each.
func tell(r *mesh.Request, d *mesh.Decision) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if s := d.Selection; s != nil && s.SetCookie != "" {
		say("response header set-cookie: %s", s.SetCookie)
	}
	if s := d.Selection; s != nil && s.SessionHost != "" {
		say("bound to %s", s.SessionHost)
	}
	if d.Hedge {
		say("hedged")
	}
	a := d.Actions
	if a == nil {
		return out
	}
	if a.Redirect != nil {
		say("redirect %d to %s", a.Redirect.Status, a.Location(r.Scheme, authorityOf(r), r.Path))
	}
	if a.DirectResponse != nil {
		say("reply %d %q", a.DirectResponse.Status, a.DirectResponse.Body)
	}
	out = append(out, tellHeaders("request", r, a.RequestHeaders)...)
	out = append(out, tellHeaders("response", nil, a.ResponseHeaders)...)
	if path := a.Path(r.Path); path != r.Path {
		say("path %s", path)
	}
	if a.Host() != "" {
		say("authority %s", a.Host())
	}
	for i := range a.Mirrors {
		say("may be mirrored to %s as %s", a.Mirrors[i].Cluster, a.Mirrors[i].Authority(authorityOf(r)))
	}
	if a.IdleTimeout > 0 {
		say("idle timeout %v", a.IdleTimeout)
	}
	return out
}

func authorityOf(r *mesh.Request) string {
	if r.Authority == "" {
		return "reviews:9080"
	}
	return r.Authority
}

// edited is a set of headers that edits are applied to.
type edited map[string][]string

func (e edited) Header(name string) (string, bool) {
	v, ok := e[name]
	return strings.Join(v, ","), ok
}

func (e edited) Set(name, value string) { e[name] = []string{value} }

func (e edited) Add(name, value string) { e[name] = append(e[name], value) }

func (e edited) Del(name string) { delete(e, name) }

// tellHeaders writes the headers of a request, or of a response with the header
// server, after the edits.
func tellHeaders(side string, r *mesh.Request, edits []*snapshot.HeaderEdits) []string {
	if len(edits) == 0 {
		return nil
	}
	headers := edited{"server": {"upstream"}}
	if r != nil {
		headers = edited{}
		for name, value := range r.Headers.(Headers) {
			headers.Set(name, value)
		}
	}
	for _, e := range edits {
		e.Apply(headers)
	}
	var list []string
	for name, values := range headers {
		list = append(list, name+": "+strings.Join(values, ","))
	}
	slices.Sort(list)
	return []string{side + " headers {" + strings.Join(list, "; ") + "}"}
}

// admit asks the rate limit of a route for N calls.
func (s *script) admit(w words) ([]string, error) {
	return s.many(w, func(r *mesh.Request) []string {
		var d mesh.Decision
		s.engine.Decide(s.snapshot(), r, &d)
		if s.engine.Admit(&d, r, s.now) {
			return []string{"admitted"}
		}
		return []string{"refused"}
	})
}

// mirrors draws the mirrors of N calls.
func (s *script) mirrors(w words) ([]string, error) {
	return s.many(w, func(r *mesh.Request) []string {
		var d, m mesh.Decision
		s.engine.Decide(s.snapshot(), r, &d)
		var out []string
		if d.Actions != nil {
			for i := range d.Actions.Mirrors {
				if s.engine.DecideMirror(s.snapshot(), &d, i, &m) {
					line := "copy to " + m.Upstream.Name
					if m.LacksKey() {
						s.engine.KeyMirror(s.snapshot(), r, &m)
					}
					if m.HasHash {
						line += fmt.Sprintf(" hash %016x", m.Hash)
					}
					out = append(out, line)
				}
			}
		}
		return out
	})
}

// fallback tells what happens to a call that finds no host.
func (s *script) fallback(w words) ([]string, error) {
	r, err := requestOf(w)
	if err != nil {
		return nil, err
	}
	var d, f mesh.Decision
	s.engine.Decide(s.snapshot(), r, &d)
	fallback := d.Fallback()
	switch {
	case fallback == nil:
		return []string{"none"}, nil
	case s.engine.DecideFallback(s.snapshot(), r, &d, &f):
		out := []string{"cluster " + f.Upstream.Name}
		if f.HasHash {
			out = append(out, fmt.Sprintf("hash %016x", f.Hash))
		}
		return append(out, tell(r, &f)...), nil
	case fallback.Cluster != "":
		return []string{"none: cluster " + fallback.Cluster + " cannot be used"}, nil
	case fallback.Reply != nil:
		return []string{fmt.Sprintf("reply %d %q", fallback.Reply.Status, fallback.Reply.Body)}, nil
	case fallback.GRPC != nil:
		return []string{fmt.Sprintf("gRPC status %d %q", fallback.GRPC.Code, fallback.GRPC.Message)}, nil
	}
	return []string{"function " + fallback.Func}, nil
}

// gate lets calls through the gate of a cluster that end as the words say.
func (s *script) gate(w words) ([]string, error) {
	n := w.times()
	u, err := s.upstream(&w)
	if err != nil {
		return nil, err
	}
	end, err := w.take()
	if err != nil {
		return nil, err
	}
	if u.Gate == nil {
		return nil, errors.New("the cluster has no gate")
	}
	counts := map[bool]int{}
	for range n {
		permit, err := u.Gate.Allow(s.now)
		counts[err == nil]++
		if err != nil && !errors.Is(err, breaker.ErrOpen) {
			return nil, err
		}
		permit.Done(end == "good", s.now)
	}
	return []string{fmt.Sprintf("%d admitted, %d refused", counts[true], counts[false])}, nil
}

// behind tells which clusters stand behind a cluster.
func (s *script) behind(w words) ([]string, error) {
	name, err := w.take()
	return []string{strings.Join(snapshot.Behind(s.snapshot(), name, s.current.clusters[name]), " ")}, err
}

// hash tells by which key a call chooses its host.
func (s *script) hash(w words) ([]string, error) {
	r, err := requestOf(w)
	if err != nil {
		return nil, err
	}
	var d mesh.Decision
	s.engine.Decide(s.snapshot(), r, &d)
	out := []string{"none"}
	if d.HasHash {
		out[0] = fmt.Sprintf("%016x", d.Hash)
	}
	return append(out, tell(r, &d)...), nil
}

// bind tells the response header that keeps a client on a host.
func (s *script) bind(w words) ([]string, error) {
	u, err := s.upstream(&w)
	if err != nil {
		return nil, err
	}
	address, err := w.take()
	if err != nil || u.Cluster.Session == nil {
		return nil, errors.Join(err, errors.New("no session"))
	}
	header, value := u.Cluster.Session.Bind(address)
	return []string{header + ": " + value}, nil
}
