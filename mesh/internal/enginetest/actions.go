package enginetest

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/meshframe/meshframe/mesh/breaker"
	"github.com/meshframe/meshframe/mesh/fault"
	"github.com/meshframe/meshframe/mesh/ratelimit"
	"github.com/meshframe/meshframe/mesh/snapshot"
)

// actions reads what a route does beside forwarding.
func (r *reader) actions(into *snapshot.Route) {
	into.RequestHeaders, into.ResponseHeaders = r.edits(""), r.edits("response_")
	into.Rewrite, into.Redirect, into.DirectResponse = r.rewrite(), r.redirect(), r.reply("reply")
	into.Mirrors, into.Hash = r.mirrors(), r.hash()
	_, into.Hedge = r.text("hedge")
	r.duration("idle", &into.IdleTimeout)
	into.RateLimit, into.Fallback, into.Session = r.limit(), r.fallback(), r.session()
}

// edits reads remove=A,B and set=, add=, absent= and exists= of NAME:VALUE lists.
func (r *reader) edits(side string) *snapshot.HeaderEdits {
	e := &snapshot.HeaderEdits{}
	if names, ok := r.text(side + "remove"); ok {
		e.Remove = strings.Split(names, ",")
	}
	for _, kind := range []struct {
		key    string
		action snapshot.HeaderAction
	}{
		{"set", snapshot.OverwriteOrAdd}, {"add", snapshot.AppendOrAdd},
		{"absent", snapshot.AddIfAbsent}, {"exists", snapshot.OverwriteIfExists},
	} {
		list, ok := r.text(side + kind.key)
		if !ok {
			continue
		}
		for header := range strings.SplitSeq(list, ",") {
			name, value, _ := strings.Cut(header, ":")
			e.Edits = append(e.Edits, snapshot.HeaderEdit{Name: name, Value: value, Action: kind.action})
		}
	}
	if e.Remove == nil && e.Edits == nil {
		return nil
	}
	return e
}

// rewrite reads rewrite=PREFIX, regex_rewrite=PATTERN>SUBSTITUTION and
// rewrite_host=HOST.
func (r *reader) rewrite() *snapshot.Rewrite {
	w := &snapshot.Rewrite{}
	w.Prefix, w.HasPrefix = r.text("rewrite")
	if text, ok := r.text("regex_rewrite"); ok {
		pattern, substitution, _ := strings.Cut(text, ">")
		re, err := regexp.Compile(pattern)
		r.note(err)
		w.Regex = &snapshot.RegexRewrite{Pattern: re, Substitution: substitution}
	}
	w.Host, _ = r.text("rewrite_host")
	if *w == (snapshot.Rewrite{}) {
		return nil
	}
	return w
}

// redirect reads redirect=STATUS and what becomes of the URL: to_scheme=,
// to_host=, to_port=, to_path=, to_prefix= and drop_query=yes.
func (r *reader) redirect() *snapshot.Redirect {
	var status uint32
	r.number("redirect", &status)
	if status == 0 {
		return nil
	}
	to := &snapshot.Redirect{Status: int(status)}
	to.Scheme, _ = r.text("to_scheme")
	to.Host, _ = r.text("to_host")
	to.Path, _ = r.text("to_path")
	r.number("to_port", &to.Port)
	if prefix, ok := r.text("to_prefix"); ok {
		to.Rewrite = &snapshot.Rewrite{HasPrefix: true, Prefix: prefix}
	}
	_, to.DropQuery = r.text("drop_query")
	return to
}

// reply reads KEY=STATUS,BODY.
func (r *reader) reply(key string) *snapshot.DirectResponse {
	text, ok := r.text(key)
	if !ok {
		return nil
	}
	return r.readReply(text)
}

func (r *reader) readReply(text string) *snapshot.DirectResponse {
	status, body, _ := strings.Cut(text, ",")
	n, err := strconv.Atoi(status)
	r.note(err)
	return &snapshot.DirectResponse{Status: n, Body: body}
}

// mirrors reads mirror=CLUSTER,25%;CLUSTER.
func (r *reader) mirrors() []snapshot.Mirror {
	text, ok := r.text("mirror")
	if !ok {
		return nil
	}
	var list []snapshot.Mirror
	for part := range strings.SplitSeq(text, ";") {
		m := snapshot.Mirror{Cluster: part, Fraction: fault.Million}
		if strings.Contains(part, ",") {
			m.Cluster, m.Fraction = r.fraction(part)
		}
		list = append(list, m)
	}
	return list
}

// hash reads hash=header:NAME;cookie:NAME,TTL;source;query:NAME;channel; a ! in
// front makes a policy terminal.
func (r *reader) hash() []snapshot.HashPolicy {
	text, ok := r.text("hash")
	if !ok {
		return nil
	}
	var list []snapshot.HashPolicy
	for part := range strings.SplitSeq(text, ";") {
		var p snapshot.HashPolicy
		part, p.Terminal = strings.CutPrefix(part, "!")
		kind, name, _ := strings.Cut(part, ":")
		var ttl string
		p.Name, ttl, p.HasTTL = strings.Cut(name, ",")
		if p.HasTTL {
			d, err := time.ParseDuration(ttl)
			r.note(err)
			p.TTL = d
		}
		var known bool
		p.Kind, known = map[string]snapshot.HashKind{
			"header": snapshot.HashHeader, "cookie": snapshot.HashCookie, "source": snapshot.HashSourceIP,
			"query": snapshot.HashQuery, "channel": snapshot.HashChannel,
		}[kind]
		if !known {
			r.note(fmt.Errorf("unknown hash policy %q", part))
		}
		list = append(list, p)
	}
	return list
}

// limit reads limit=10/1s for a bucket of ten tokens that fills in a second, and
// buckets for keys behind it: limit=10/1s;x-user>5/1s;x-user=vip>50/1s;source>2/1s.
func (r *reader) limit() *ratelimit.Policy {
	text, ok := r.text("limit")
	if !ok {
		return nil
	}
	p := &ratelimit.Policy{}
	for part := range strings.SplitSeq(text, ";") {
		key, bucket, keyed := strings.Cut(part, ">")
		if !keyed {
			p.Bucket = r.bucket(part)
			continue
		}
		k := ratelimit.Keyed{Bucket: r.bucket(bucket)}
		for name := range strings.SplitSeq(key, ",") {
			header, value, _ := strings.Cut(name, "=")
			if header == "source" {
				k.Key = append(k.Key, ratelimit.KeyPart{Source: true, Value: value})
			} else {
				k.Key = append(k.Key, ratelimit.KeyPart{Header: header, Value: value})
			}
		}
		p.Keyed = append(p.Keyed, k)
	}
	return p
}

func (r *reader) bucket(text string) ratelimit.Bucket {
	tokens, interval, _ := strings.Cut(text, "/")
	n, err := strconv.ParseUint(tokens, 10, 32)
	r.note(err)
	d, err := time.ParseDuration(interval)
	r.note(err)
	return ratelimit.Bucket{MaxTokens: uint32(n), TokensPerFill: uint32(n), FillInterval: d}
}

// fallback reads fallback=cluster:NAME, reply:STATUS,BODY, grpc:CODE,TEXT or
// func:NAME.
func (r *reader) fallback() *snapshot.Fallback {
	text, ok := r.text("fallback")
	if !ok {
		return nil
	}
	kind, what, _ := strings.Cut(text, ":")
	switch kind {
	case "cluster":
		return &snapshot.Fallback{Cluster: what}
	case "func":
		return &snapshot.Fallback{Func: what}
	case "reply":
		return &snapshot.Fallback{Reply: r.readReply(what)}
	case "grpc":
		reply := r.readReply(what)
		return &snapshot.Fallback{GRPC: &snapshot.GRPCReply{Code: reply.Status, Message: reply.Body}}
	}
	r.note(fmt.Errorf("unknown fallback %q", kind))
	return nil
}

// session reads session=cookie:NAME,TTL, session=header:NAME or session=none.
func (r *reader) session() *snapshot.Session {
	text, ok := r.text("session")
	if !ok {
		return nil
	}
	kind, name, _ := strings.Cut(text, ":")
	switch kind {
	case "none":
		return &snapshot.Session{}
	case "header":
		return &snapshot.Session{Header: name}
	}
	s := &snapshot.Session{Path: "/"}
	var ttl string
	s.Cookie, ttl, ok = strings.Cut(name, ",")
	if ok {
		d, err := time.ParseDuration(ttl)
		r.note(err)
		s.TTL = d
	}
	return s
}

// halfOpen reads half_open=VOLUME,PERCENT%.
func (r *reader) halfOpen() *breaker.HalfOpen {
	text, ok := r.text("half_open")
	if !ok {
		return nil
	}
	volume, percent, _ := strings.Cut(text, ",")
	n, err := strconv.ParseUint(volume, 10, 32)
	r.note(err)
	p, err := strconv.ParseFloat(strings.TrimSuffix(percent, "%"), 64)
	r.note(err)
	return &breaker.HalfOpen{MinVolume: uint32(n), ErrorPercent: p}
}

// budget reads retry_budget=20%,3 or retry_budget=20%,3,10s.
func (r *reader) budget(into *breaker.Limits) {
	text, ok := r.text("retry_budget")
	if !ok {
		return
	}
	percent, least, _ := strings.Cut(text, ",")
	p, err := strconv.ParseFloat(strings.TrimSuffix(percent, "%"), 64)
	r.note(err)
	least, interval, ok := strings.Cut(least, ",")
	if ok {
		into.BudgetInterval, err = time.ParseDuration(interval)
		r.note(err)
	}
	n, err := strconv.ParseUint(least, 10, 32)
	r.note(err)
	into.HasBudget, into.BudgetPercent, into.MinRetries = true, p, uint32(n)
}

// aggregate reads aggregate=NAME,NAME.
func (r *reader) aggregate(into *snapshot.Cluster) {
	text, ok := r.text("aggregate")
	if !ok {
		return
	}
	into.Discovery, into.Aggregate = snapshot.Aggregate, strings.Split(text, ",")
	if text == "" {
		r.note(errors.New("no cluster behind it"))
	}
}
