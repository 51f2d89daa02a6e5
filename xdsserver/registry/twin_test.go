package registry

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshframe/meshframe/xdsserver/config"
)

// TestIncrementalIsLikeFromScratch does random things to a registry and compares it after each with one that is made
// anew, and what it reports as changed with what is different.
func TestIncrementalIsLikeFromScratch(t *testing.T) {
	for seed := range uint64(8) {
		for _, policy := range []Policy{Any, Declared} {
			t.Run(fmt.Sprintf("seed=%d,%s", seed, policy), func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(seed, uint64(policy)))
				w := &twin{T: t, rnd: rnd, policy: policy, r: newRegistry(t, Options{Policy: policy}), m: model(t, "")}
				w.r.Subscribe(func(changed []string, _ *Index) { w.changed = append(w.changed, changed...) })
				for range 60 {
					w.step()
				}
			})
		}
	}
}

type twin struct {
	*testing.T
	rnd     *rand.Rand
	policy  Policy
	r       *Registry
	m       *config.Model
	leases  []*Lease
	changed []string
}

var twinHosts = []string{"a", "b", "c.example.com", "a.default", "a.other"}

func (w *twin) step() {
	before := w.r.Index()
	w.changed = nil
	var what string
	switch n := w.rnd.IntN(10); {
	case n < 2:
		yaml := w.yaml()
		w.m = modelAfter(w.T, w.m, yaml)
		w.r.SetModel(w.m)
		what = yaml
	case n < 7 || len(w.leases) == 0:
		i := Instance{
			Host: twinHosts[w.rnd.IntN(len(twinHosts))], Namespace: []string{"default", "other"}[w.rnd.IntN(2)], Port: 80 + w.rnd.Uint32N(2),
			Address: fmt.Sprintf("10.1.0.%d:80", w.rnd.IntN(3)), Labels: map[string]string{"version": fmt.Sprint(w.rnd.IntN(2))},
		}
		w.leases = append(w.leases, register(w, w.r, i))
		what = fmt.Sprintf("register %+v", i)
	default:
		at := w.rnd.IntN(len(w.leases))
		what = fmt.Sprintf("release %+v", w.leases[at].instance)
		w.leases[at].Release()
		w.leases = slices.Delete(w.leases, at, at+1)
	}
	w.compare(before, what)
}

// yaml declares some services, with some endpoints, and workloads that some of them select.
func (w *twin) yaml() string {
	var docs []string
	for n, host := range []string{"a", "b", "c.example.com"} {
		if w.rnd.IntN(3) == 0 {
			continue
		}
		namespace := []string{"default", "other"}[w.rnd.IntN(2)]
		resolution := []string{"STATIC", "STATIC", "STATIC", "NONE"}[w.rnd.IntN(4)]
		endpoints := "endpoints: []"
		switch {
		case resolution == "STATIC" && w.rnd.IntN(2) == 0:
			endpoints = "workloadSelector: {labels: {app: x}}"
		case resolution == "STATIC":
			endpoints = fmt.Sprintf("endpoints: [{address: 10.0.0.%d}]", w.rnd.IntN(2))
		}
		docs = append(docs, fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: s%d, namespace: %s}\n"+
			"spec: {hosts: [%s], resolution: %s, ports: [{number: 80, name: http, protocol: HTTP}], %s}\n", n, namespace, host, resolution, endpoints))
	}
	for n := range 2 {
		docs = append(docs, fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: w%d}\n"+
			"spec: {address: 10.2.0.%d, labels: {app: %s}}\n", n, w.rnd.IntN(2), []string{"x", "y"}[w.rnd.IntN(2)]))
	}
	return strings.Join(docs, "---\n")
}

func (w *twin) compare(before *Index, what string) {
	fresh := newRegistry(w, Options{Policy: w.policy})
	for _, l := range w.leases {
		register(w, fresh, l.instance)
	}
	fresh.SetModel(w.m)
	got, want := w.r.Index(), fresh.Index()
	if d := cmp.Diff(want.Hosts(), got.Hosts()); d != "" {
		w.Fatalf("after %s: hosts: -from scratch +incremental\n%s", what, d)
	}
	for _, host := range want.Hosts() {
		if d := cmp.Diff(want.All(host), got.All(host), ignoreIdentity); d != "" {
			w.Fatalf("after %s: %s: -from scratch +incremental\n%s", what, host, d)
		}
	}
	for _, host := range append(before.Hosts(), got.Hosts()...) {
		same := slices.Equal(before.All(host), got.All(host))
		if reported := slices.Contains(w.changed, host); reported == same {
			w.Fatalf("after %s: %s reported as changed: %v, is the same: %v", what, host, reported, same)
		}
	}
}
