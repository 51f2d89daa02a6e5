package archtest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// rule says what a package may import. Patterns are paths; "x/..." is x and all
// below it.
type rule struct {
	// packages are the packages of the module that the rule is for.
	packages []string
	// own are the packages of the module that they may import.
	own []string
	// outside are the packages of other modules that they may import.
	outside []string
	// pure forbids the parts of the standard library that do I/O, and clocks.
	pure bool
}

// The modules that several rules name.
var (
	grpcModules = []string{"google.golang.org/grpc/...", "google.golang.org/genproto/googleapis/rpc/...", "google.golang.org/protobuf/..."}
	envoyProtos = []string{"github.com/envoyproxy/go-control-plane/envoy/...", "github.com/cncf/xds/go/...", "google.golang.org/protobuf/..."}
	pureModules = []string{"github.com/cespare/xxhash/v2"}
	anything    = []string{"..."}
)

// rules are tried in order; the first that names a package holds for it.
var rules = []rule{
	// The engine.
	{
		packages: []string{"mesh/breaker"},
		own:      []string{"mesh/outcome", "mesh/stripe"}, outside: append([]string{"github.com/sony/gobreaker/v2"}, pureModules...), pure: true,
	},
	{
		packages: []string{"mesh/route", "mesh/pick", "mesh/retry", "mesh/fault", "mesh/outlier", "mesh/ratelimit", "mesh/mirror"},
		own:      []string{"mesh/outcome", "mesh/stripe"}, outside: pureModules, pure: true,
	},
	{packages: []string{"mesh/outcome", "mesh/stripe"}, pure: true},
	{
		packages: []string{"mesh/snapshot"},
		own: []string{
			"mesh/route", "mesh/pick", "mesh/retry", "mesh/fault", "mesh/breaker", "mesh/outlier", "mesh/ratelimit", "mesh/mirror",
			"mesh/outcome", "mesh/stripe",
		},
		outside: pureModules, pure: true,
	},
	{packages: []string{"mesh/internal/..."}, own: []string{"mesh/..."}, outside: []string{"github.com/google/go-cmp/..."}},
	{packages: []string{"mesh"}, own: []string{"mesh/..."}, outside: pureModules, pure: true},

	// The way of the configuration to the engine.
	{packages: []string{"resolver/xdsclient", "resolver/xdsclient/..."}, own: []string{"resolver/xdsclient/..."}, outside: append(
		[]string{
			"github.com/envoyproxy/go-control-plane/envoy/config/core/v3",
			"github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3",
		}, grpcModules...)},
	{packages: []string{"resolver/bootstrap"}, outside: append(slices.Clone(grpcModules), envoyProtos...)},
	{
		packages: []string{"resolver/decode"},
		own: []string{
			"mesh/snapshot", "mesh/route", "mesh/pick", "mesh/retry", "mesh/fault", "mesh/breaker", "mesh/outlier", "mesh/ratelimit",
			"mesh/mirror", "mesh/outcome",
		},
		outside: envoyProtos,
	},
	{packages: []string{"resolver/watch"}, own: []string{"mesh/...", "resolver/decode", "resolver/xdsclient"}},

	// The edges of gRPC and net/http.
	{packages: []string{"resolver"}, own: []string{"mesh/...", "resolver/watch"}, outside: grpcModules},
	{
		packages: []string{"balancer"},
		own:      []string{"mesh/...", "resolver/watch"}, outside: append([]string{"github.com/cncf/xds/go/xds/data/orca/v3"}, grpcModules...),
	},
	{
		packages: []string{"interceptors"},
		own:      []string{"mesh/...", "resolver/watch"}, outside: append([]string{"github.com/pires/go-proxyproto"}, grpcModules...),
	},
	{packages: []string{"interceptors/telemetry"}, own: []string{"mesh/outcome"}, outside: []string{"go.opentelemetry.io/..."}},

	// What applications import.
	{packages: []string{"srvframe/internal/..."}, own: []string{"srvframe/internal/..."}},
	{
		packages: []string{"srvframe/meshtest"},
		own:      []string{"mesh/...", "resolver/...", "balancer", "interceptors/...", "srvframe", "xdsserver/..."}, outside: grpcModules,
	},
	{
		packages: []string{"srvframe"},
		own:      []string{"mesh/...", "resolver/...", "balancer", "interceptors/..."},
		outside: append([]string{
			"github.com/envoyproxy/go-control-plane/envoy/config/core/v3",
			"github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3",
		}, grpcModules...),
	},
	{
		packages: []string{"sidecar", "sidecar/..."},
		own:      []string{"mesh/...", "resolver/...", "balancer", "interceptors/...", "srvframe", "sidecar/..."}, outside: anything,
	},

	// The control plane.
	{packages: []string{"xdsserver", "xdsserver/..."}, own: []string{"xdsserver/..."}, outside: anything},

	// Programs and what tests share.
	{packages: []string{"cmd/...", "examples/..."}, own: anything, outside: anything},
	{packages: []string{"internal/..."}, own: anything, outside: anything},
}

// impure are the packages of the standard library that reach out of the process.
var impure = []string{"net/...", "os/...", "syscall/...", "io/ioutil", "log/...", "plugin", "runtime/pprof", "runtime/trace"}

// ruleFor returns the rule for a package of the module.
func ruleFor(path string) (rule, bool) {
	for _, r := range rules {
		if matchesAny(r.packages, path) {
			return r, true
		}
	}
	return rule{}, false
}

// verdict says why a package may not import the path; empty means it may.
func (r rule) verdict(path string) string {
	if own, ok := strings.CutPrefix(path, module); ok {
		if own = strings.TrimPrefix(own, "/"); !matchesAny(r.own, own) {
			return "it may import of ours only " + list(r.own)
		}
		return ""
	}
	if first, _, _ := strings.Cut(path, "/"); strings.Contains(first, ".") {
		if !matchesAny(r.outside, path) {
			return "it may import of other modules only " + list(r.outside)
		}
		return ""
	}
	if r.pure && path != "net/netip" && matchesAny(impure, path) {
		return "the engine does no I/O"
	}
	return ""
}

// list names patterns for a message.
func list(patterns []string) string {
	if len(patterns) == 0 {
		return "nothing"
	}
	return strings.Join(patterns, ", ")
}

// matchesAny reports whether a pattern covers the path.
func matchesAny(patterns []string, path string) bool {
	for _, pattern := range patterns {
		base, tree := strings.CutSuffix(pattern, "...")
		base = strings.TrimSuffix(base, "/")
		if path == base || tree && (base == "" || strings.HasPrefix(path, base+"/")) {
			return true
		}
	}
	return false
}

// TestImports holds the table of who may import whom.
func TestImports(t *testing.T) {
	for _, p := range packages(t) {
		r, ok := ruleFor(p.path)
		if !ok {
			t.Errorf("%s: no rule says what this package may import; add one", p.importPath())
			continue
		}
		for _, path := range p.imports {
			if why := r.verdict(path); why != "" {
				t.Errorf("%s imports %s: %s", p.importPath(), path, why)
			}
		}
	}
}

// TestClientDependencies holds what an application that imports srvframe links:
// never the control plane or what only it and the tests need.
func TestClientDependencies(t *testing.T) {
	forbidden := []string{
		module + "/xdsserver/...", "github.com/envoyproxy/go-control-plane/pkg/...", "istio.io/...", "k8s.io/...", "sigs.k8s.io/...",
		"github.com/spf13/...", "github.com/prometheus/...", "github.com/fsnotify/...", "google.golang.org/grpc/xds/...",
		"google.golang.org/grpc/interop/...", "testing/...",
	}
	found := packages(t)
	for path, chain := range reachable(found, "srvframe") {
		if matchesAny(forbidden, path) {
			t.Errorf("srvframe links %s through %s", path, strings.Join(chain, " -> "))
		}
	}
}

// reachable returns every import path that a package of the module links, as
// far as the module's own files tell, with the chain of packages that leads to it.
func reachable(found map[string]*pkg, from string) map[string][]string {
	seen := map[string][]string{}
	var visit func(path string, chain []string)
	visit = func(path string, chain []string) {
		p := found[path]
		if p == nil {
			return
		}
		chain = append(slices.Clone(chain), path)
		for _, imported := range p.imports {
			if _, ok := seen[imported]; ok {
				continue
			}
			seen[imported] = chain
			if own, ok := strings.CutPrefix(imported, module+"/"); ok {
				visit(own, chain)
			}
		}
	}
	visit(from, nil)
	return seen
}

// TestRulesCatch shows that the rules forbid what they are there for.
func TestRulesCatch(t *testing.T) {
	for _, test := range []struct {
		from, to string
		allowed  bool
	}{
		{"mesh", "net", false},
		{"mesh", "net/netip", true},
		{"mesh", "os", false},
		{"mesh", "google.golang.org/grpc", false},
		{"mesh/route", module + "/mesh/pick", false},
		{"mesh/route", module + "/mesh/outcome", true},
		{"mesh/route", "github.com/sony/gobreaker/v2", false},
		{"mesh/breaker", "github.com/sony/gobreaker/v2", true},
		{"mesh/snapshot", module + "/mesh", false},
		{"resolver/xdsclient", module + "/mesh/snapshot", false},
		{"resolver/xdsclient", "google.golang.org/grpc", true},
		{"resolver/decode", "google.golang.org/grpc/codes", false},
		{"resolver/decode", module + "/mesh/snapshot", true},
		{"resolver/decode", module + "/mesh", false},
		{"resolver/watch", module + "/mesh", true},
		{"resolver/watch", "google.golang.org/grpc", false},
		{"balancer", module + "/interceptors", false},
		{"srvframe", module + "/xdsserver", false},
		{"srvframe", module, false},
		{"srvframe/meshtest", module + "/xdsserver", true},
		{"xdsserver/translate", module + "/mesh/route", false},
		{"xdsserver/translate", module + "/resolver/xdsclient", false},
		{"xdsserver/translate", module + "/xdsserver/config", true},
	} {
		t.Run(fmt.Sprintf("%s imports %s", test.from, test.to), func(t *testing.T) {
			r, ok := ruleFor(test.from)
			if !ok {
				t.Fatal("no rule")
			}
			if why := r.verdict(test.to); (why == "") != test.allowed {
				t.Errorf("verdict %q, allowed should be %v", why, test.allowed)
			}
		})
	}
}
