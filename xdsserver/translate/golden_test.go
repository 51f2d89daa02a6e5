package translate_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/meshframe/meshframe/xdsserver/config"
	"github.com/meshframe/meshframe/xdsserver/registry"
	"github.com/meshframe/meshframe/xdsserver/support"
	"github.com/meshframe/meshframe/xdsserver/translate"
)

var update = flag.Bool("update", false, "write the golden files")

// Each testdata/*.yaml is one configuration. Comments in it say who asks for what:
//
//	# registry-only
//	# client: TYPE NAMESPACE [at=LOCALITY] [serves=HOST:PORT] [LABEL=VALUE...]
//	# ask: LISTENER...
//
// For each client the golden file has what it gets: the listeners, and everything that they lead to.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := runCase(t, file, data)
			golden := strings.TrimSuffix(file, ".yaml") + ".golden.json"
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("run with -update if this is right (-want +got):\n%s", diff)
			}
		})
	}
}

// directives are the comments of a case.
type directives struct {
	options translate.Options
	clients []translate.Client
	ask     []string
}

func parseDirectives(t *testing.T, data []byte) directives {
	t.Helper()
	var d directives
	for line := range strings.SplitSeq(string(data), "\n") {
		switch rest, _ := strings.CutPrefix(line, "# "); {
		case rest == "registry-only":
			d.options.RegistryOnly = true
		case strings.HasPrefix(rest, "client: "):
			d.clients = append(d.clients, parseClient(t, strings.Fields(rest)[1:]))
		case strings.HasPrefix(rest, "ask: "):
			d.ask = append(d.ask, strings.Fields(rest)[1:]...)
		}
	}
	return d
}

func parseClient(t *testing.T, words []string) translate.Client {
	t.Helper()
	kind, err := support.ParseClient(words[0])
	if err != nil {
		t.Fatal(err)
	}
	c := translate.Client{Type: kind.Type, Release: kind.Release, Namespace: words[1], Labels: map[string]string{}}
	for _, w := range words[2:] {
		switch k, v, _ := strings.Cut(w, "="); k {
		case "at":
			c.Locality = v
		case "serves":
			host, port, _ := strings.Cut(v, ":")
			n, err := strconv.Atoi(port)
			if err != nil {
				t.Fatal(err)
			}
			c.Serves = append(c.Serves, translate.Served{Host: host, Port: uint32(n)})
		default:
			c.Labels[k] = v
		}
	}
	return c
}

// world makes a world of one file.
func world(t testing.TB, name string, data []byte, opts translate.Options) *translate.World {
	t.Helper()
	return worldOf(t, opts, config.Parse(name, data))
}

func worldOf(t testing.TB, opts translate.Options, files ...config.File) *translate.World {
	t.Helper()
	m, problems := config.Build(files, config.Options{})
	if err := config.AsError(problems); err != nil {
		t.Fatal(err)
	}
	return worldOfModel(t, opts, m)
}

func worldOfModel(t testing.TB, opts translate.Options, m *config.Model) *translate.World {
	t.Helper()
	r, err := registry.New(registry.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	return translate.NewWorld(r.SetModel(m), opts, nil)
}

func runCase(t *testing.T, name string, data []byte) []byte {
	t.Helper()
	d := parseDirectives(t, data)
	w := world(t, name, data, d.options)
	out := map[string]map[string]any{}
	for _, c := range d.clients {
		key := c.Key()
		if _, twice := out[key]; twice {
			t.Fatalf("client %s twice", key)
		}
		answers := follow(t, w, w.Restrict(c), d.ask)
		out[key] = shown(t, answers)
		out[key]["notes"] = notesOf(w, c, answers)
	}
	b, err := json.MarshalIndent(out, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return append(b, '\n')
}

// answer is one resource that a client is given.
type answer struct {
	section, name string
	translate.Result
}

// follow asks for listeners and for everything that they lead to.
func follow(t *testing.T, w *translate.World, c translate.Client, listeners []string) (all []answer) {
	t.Helper()
	ask := func(section string, names []string, get func(translate.Client, string) translate.Result, next func(proto.Message) []string) (more []string) {
		for _, n := range names {
			r := get(c, n)
			all = append(all, answer{section, n, r})
			if r.Message != nil {
				more = append(more, next(r.Message)...)
			}
		}
		slices.Sort(more)
		return slices.Compact(more)
	}
	routes := ask("listeners", listeners, w.Listener, routesOf(t))
	clusters := ask("routes", routes, w.Route, clustersOf)
	assignments := ask("clusters", clusters, w.Cluster, func(m proto.Message) []string {
		if cl := m.(*clusterv3.Cluster); cl.GetEdsClusterConfig().GetServiceName() != "" {
			return []string{cl.GetEdsClusterConfig().GetServiceName()}
		}
		return nil
	})
	ask("endpoints", assignments, w.Endpoints, func(proto.Message) []string { return nil })
	return all
}

// shown writes answers by section and name.
func shown(t *testing.T, all []answer) map[string]any {
	t.Helper()
	out := map[string]any{}
	for _, a := range all {
		if out[a.section] == nil {
			out[a.section] = map[string]any{}
		}
		var text any = "does not exist"
		switch {
		case a.Message != nil:
			text = asJSON(t, a.Message)
		case a.Instead != nil:
			text = map[string]any{"instead": asJSON(t, a.Instead)}
		}
		out[a.section].(map[string]any)[a.name] = text
	}
	return out
}

// notesOf is everything that is said about resources.
func notesOf(w *translate.World, c translate.Client, answers []answer) (notes []string) {
	used := map[*config.Meta]bool{}
	for _, r := range answers {
		for _, o := range r.Objects {
			used[o] = true
		}
		for _, e := range r.Notes {
			notes = append(notes, e.String())
		}
	}
	for _, o := range w.Index().Model.Objects() {
		if used[&o.Meta] {
			for _, e := range support.Object(o, c.Kind()) {
				notes = append(notes, e.String())
			}
		}
	}
	slices.Sort(notes)
	return slices.Compact(notes)
}

func routesOf(t *testing.T) func(proto.Message) []string {
	return func(m proto.Message) []string {
		packed := m.(*listenerv3.Listener).GetApiListener().GetApiListener()
		if packed == nil {
			return nil
		}
		hcm := &hcmv3.HttpConnectionManager{}
		if err := packed.UnmarshalTo(hcm); err != nil {
			t.Fatal(err)
		}
		return []string{hcm.GetRds().GetRouteConfigName()}
	}
}

func clustersOf(m proto.Message) (names []string) {
	for _, v := range m.(*routev3.RouteConfiguration).GetVirtualHosts() {
		for _, r := range v.GetRoutes() {
			a := r.GetRoute()
			if a.GetCluster() != "" {
				names = append(names, a.GetCluster())
			}
			for _, c := range a.GetWeightedClusters().GetClusters() {
				names = append(names, c.GetName())
			}
			for _, p := range a.GetRequestMirrorPolicies() {
				names = append(names, p.GetCluster())
			}
		}
	}
	return names
}

// asJSON writes a message as protojson does, without its deliberately unstable spaces.
func asJSON(t *testing.T, m proto.Message) json.RawMessage {
	t.Helper()
	b, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := json.Compact(&out, b); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Translation must not depend on the order of a map.
func TestDeterministic(t *testing.T) {
	data, err := os.ReadFile("testdata/matches.yaml")
	if err != nil {
		t.Fatal(err)
	}
	first := runCase(t, "testdata/matches.yaml", data)
	for i := range 5 {
		if diff := cmp.Diff(string(first), string(runCase(t, "testdata/matches.yaml", data))); diff != "" {
			t.Fatal(fmt.Sprint("run ", i), diff)
		}
	}
}
