package translate_test

import (
	"log/slog"
	"os"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/meshframe/meshframe/xdsserver/config"
	"github.com/meshframe/meshframe/xdsserver/registry"
	"github.com/meshframe/meshframe/xdsserver/support"
	"github.com/meshframe/meshframe/xdsserver/translate"
)

// Names come from the wire: whatever they are, the answer is a resource that can be encoded, or none.
func FuzzNames(f *testing.F) {
	for _, name := range []string{
		"reviews:9080", "10.96.0.3:9080", "[::1]:80", "a..b:80", ":", "x:0", "*.example.com:80", "*:80", "outbound|9080|v1|reviews.default.svc.cluster.local",
		"outbound|80||*.example.com", "outbound|80||*", "outbound||||", "refused|x", "xds.istio.io/grpc/lds/inbound/[::]:80", "xds.istio.io/grpc/lds/inbound/",
	} {
		f.Add(name, "default", false)
	}
	var files []config.File
	for _, name := range []string{"outside", "policies", "tls", "localities", "zones", "sidecars"} {
		data, err := os.ReadFile("testdata/" + name + ".yaml")
		if err != nil {
			f.Fatal(err)
		}
		files = append(files, config.Parse(name, data))
	}
	m, _ := config.Build(files, config.Options{})
	r, err := registry.New(registry.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	x := r.SetModel(m)
	if err := r.Close(); err != nil {
		f.Fatal(err)
	}
	worlds := []*translate.World{translate.NewWorld(x, translate.Options{}, nil), translate.NewWorld(x, translate.Options{RegistryOnly: true}, nil)}
	f.Fuzz(func(t *testing.T, name, namespace string, ours bool) {
		c := translate.Client{Type: support.GRPCGo, Namespace: namespace}
		if ours {
			c = translate.Client{Type: support.Meshframe, Namespace: namespace, Locality: "eu/eu-1", Serves: []translate.Served{{Host: name, Port: 80}}}
		}
		for _, w := range worlds {
			for _, ask := range []func(translate.Client, string) translate.Result{w.Listener, w.Route, w.Cluster, w.Endpoints} {
				result := ask(c, name)
				for _, m := range []proto.Message{result.Message, result.Instead} {
					if m == nil {
						continue
					}
					if _, err := proto.Marshal(m); err != nil && isText(name) && isText(namespace) {
						t.Errorf("%q: %v", name, err)
					}
				}
			}
		}
	})
}

func isText(s string) bool {
	for _, r := range s {
		if r == '\uFFFD' {
			return false
		}
	}
	return true
}
