package bootstrap_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/xds"

	"github.com/meshframe/meshframe/resolver/bootstrap"
)

func read(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestIstioAgent(t *testing.T) {
	c, err := bootstrap.Parse(read(t, "istio-agent.json"))
	if err != nil {
		t.Fatal(err)
	}
	s := c.Servers[0]
	got := []string{
		s.URI, s.CredsType, s.Creds.Info().SecurityProtocol, strings.Join(s.Features, ","),
		c.Node.GetId(),
		c.Node.GetMetadata().GetFields()["LABELS"].GetStructValue().GetFields()["version"].GetStringValue(),
		c.ServerListenerName("[::]:9080"), c.ClientListenerName("reviews:9080"),
	}
	want := []string{
		"unix:///etc/istio/proxy/XDS", "insecure", "insecure", "xds_v3",
		"sidecar~10.244.1.17~reviews-v1-7d8c.default~default.svc.cluster.local",
		"v1",
		"xds.istio.io/grpc/lds/inbound/[::]:9080", "reviews:9080",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if s.IgnoreResourceDeletion() {
		t.Error("IgnoreResourceDeletion() without the feature")
	}
	if diff := cmp.Diff([]string{"node.UserAgentVersionType: unknown field, ignored"}, c.Warnings); diff != "" {
		t.Errorf("warnings: -want +got:\n%s", diff)
	}
	if n := c.Node.GetMetadata().GetFields()["PROXY_CONFIG"].GetStructValue().GetFields()["concurrency"].GetNumberValue(); n != 2 {
		t.Errorf("concurrency = %v, want 2", n)
	}
}

func TestTrafficDirector(t *testing.T) {
	c, err := bootstrap.Parse(read(t, "traffic-director.json"))
	if err != nil {
		t.Fatal(err)
	}
	s := c.Servers[0]
	if s.CredsType != "tls" || s.Creds.Info().SecurityProtocol != "tls" {
		t.Errorf("credentials are %q, want the first supported type, tls", s.CredsType)
	}
	if !s.IgnoreResourceDeletion() {
		t.Error("IgnoreResourceDeletion() = false, want true")
	}
	want := "xdstp://traffic-director-global.xds.googleapis.com/envoy.config.listener.v3.Listener/a%20b:80"
	if got := c.ClientListenerName("a b:80"); got != want {
		t.Errorf("ClientListenerName = %q, want %q", got, want)
	}
	if got, want := c.Node.GetLocality().GetZone(), "uscentral-5"; got != want {
		t.Errorf("zone = %q, want %q", got, want)
	}
	if diff := cmp.Diff([]string{"authorities: names with an authority (xdstp://) are not resolved yet"}, c.Warnings); diff != "" {
		t.Errorf("warnings: -want +got:\n%s", diff)
	}
}

const server = `{"server_uri": "a:1", "channel_creds": [{"type": "insecure"}]}`

func TestErrors(t *testing.T) {
	node := `"node": {"id": "me"}`
	tests := map[string]struct {
		in   string
		want []string // "path: problem"
	}{
		"empty":         {``, []string{`the JSON ends early`}},
		"cut off":       {`{"xds_servers": [`, []string{`the JSON ends early`}},
		"not JSON":      {"{\n  \"xds_servers\": !\n}", []string{`line 2, column 18: invalid character '!' looking for beginning of value`}},
		"more":          {`{} {}`, []string{`want one JSON object, found more after it`}},
		"not an object": {`[1]`, []string{`want an object, found a list`}},
		"null":          {`null`, []string{`want an object, found null`}},
		"no servers":    {`{` + node + `}`, []string{`xds_servers: want a list of at least one server, found none`}},
		"empty servers": {`{"xds_servers": [], ` + node + `}`, []string{`xds_servers: want a list of at least one server, found none`}},
		"servers is an object": {
			`{"xds_servers": ` + server + `, ` + node + `}`,
			[]string{`xds_servers: want a list, found an object`},
		},
		"several": {
			`{"xds_servers": [7, {"server_uri": 5}, {"channel_creds": "insecure"}], "node": [], "server_listener_resource_name_template": 1}`,
			[]string{
				`xds_servers[0]: want an object, found a number`,
				`xds_servers[1].server_uri: want a string, found a number`,
				`xds_servers[1].channel_creds: want a list of at least one type of credentials, found none`,
				`xds_servers[2].server_uri: want a gRPC target such as "127.0.0.1:15010", found none`,
				`xds_servers[2].channel_creds: want a list, found a string`,
				`node: want an object, found a list`,
				`server_listener_resource_name_template: want a string, found a number`,
			},
		},
		"credentials nobody knows": {
			`{"xds_servers": [{"server_uri": "a:1", "channel_creds": [{"type": "google_default"}, {"type": "alts"}]}], ` + node + `}`,
			[]string{`xds_servers[0].channel_creds: want credentials of type "insecure" or "tls", found ["google_default", "alts"]`},
		},
		"half a certificate": {
			`{"xds_servers": [{"server_uri": "a:1", "channel_creds": [{"type": "tls", "config": {"certificate_file": "c", "refresh_interval": "soon", "ca_certificate_file": false}}]}], ` + node + `}`,
			[]string{
				`xds_servers[0].channel_creds[0].config.ca_certificate_file: want a string, found a boolean`,
				`xds_servers[0].channel_creds[0].config: want both certificate_file and private_key_file, or neither; found one`,
				`xds_servers[0].channel_creds[0].config.refresh_interval: want a positive duration such as "600s"`,
			},
		},
		"node": {
			`{"xds_servers": [` + server + `], "node": {"id": 1, "cluster": [], "locality": {"region": {}}, "metadata": {"x": 1e999}}}`,
			[]string{
				`node.id: want a string, found a number`,
				`node.cluster: want a string, found a list`,
				`node.metadata.x: want a number that fits 64 bits, found 1e999`,
				`node.locality.region: want a string, found an object`,
			},
		},
		"providers": {
			`{"xds_servers": [` + server + `], "certificate_providers": {"a": {}, "b": {"plugin_name": 1, "config": 2}, "c": 3}}`,
			[]string{
				`certificate_providers.a.plugin_name: want the name of a plugin such as "file_watcher", found none`,
				`certificate_providers.b.plugin_name: want a string, found a number`,
				`certificate_providers.b.config: want an object, found a number`,
				`certificate_providers.c: want an object, found a number`,
			},
		},
		"authorities": {
			`{"xds_servers": [` + server + `], "authorities": {"a": {"client_listener_resource_name_template": "xdstp://b/%s"}, "c": {"xds_servers": [` + server + `]}},
			  "server_listener_resource_name_template": "xdstp://c/%s", "client_default_listener_resource_name_template": "xdstp://d/%s"}`,
			[]string{
				`authorities.a.client_listener_resource_name_template: want a text that starts with "xdstp://a/", found "xdstp://b/%s"`,
				`server_listener_resource_name_template: authority "c" has xds_servers of its own, which is not supported`,
				`client_default_listener_resource_name_template: want a name whose authority "d" is in authorities, found "xdstp://d/%s"`,
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := bootstrap.Parse([]byte(tt.in))
			if err == nil {
				t.Fatal("no error")
			}
			want := "bootstrap: " + strings.Join(tt.want, "\nbootstrap: ")
			if diff := cmp.Diff(want, err.Error()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if _, ok := errors.AsType[*bootstrap.Error](err); !ok {
				t.Errorf("error is a %T, want *bootstrap.Error inside", err)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	c, err := bootstrap.Parse([]byte(`{
		"xds_servers": [{"server_uri": "a:1", "channel_creds": [{"type": "insecure", "extra": 1}], "call_creds": []}],
		"node": {"locality": {"planet": "earth"}}, "comment": "x", "authorities": null}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"xds_servers[0].channel_creds[0].extra: unknown field, ignored",
		"xds_servers[0].call_creds: unknown field, ignored",
		"node.locality.planet: unknown field, ignored",
		"node.id: missing; most control planes tell their clients apart by it",
		"comment: unknown field, ignored",
	}
	if diff := cmp.Diff(want, c.Warnings); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestFromEnv(t *testing.T) {
	file := filepath.Join(t.TempDir(), "b.json")
	if err := os.WriteFile(file, []byte(`{"xds_servers": [`+strings.Replace(server, "a:1", "file:1", 1)+`]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad.json")
	if err := os.WriteFile(bad, []byte(`{"xds_servers": 1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	inline := `{"xds_servers": [` + strings.Replace(server, "a:1", "inline:1", 1) + `]}`
	tests := map[string]struct {
		env                     map[string]string
		ok                      bool
		wantURI, wantErr, wantF string
	}{
		"none":         {},
		"file":         {env: map[string]string{bootstrap.EnvFile: file}, ok: true, wantURI: "file:1", wantF: "GRPC_XDS_BOOTSTRAP=" + file},
		"inline":       {env: map[string]string{bootstrap.EnvInline: inline}, ok: true, wantURI: "inline:1", wantF: "GRPC_XDS_BOOTSTRAP_CONFIG"},
		"file wins":    {env: map[string]string{bootstrap.EnvFile: file, bootstrap.EnvInline: inline}, ok: true, wantURI: "file:1", wantF: "GRPC_XDS_BOOTSTRAP=" + file},
		"missing file": {env: map[string]string{bootstrap.EnvFile: bad + "x", bootstrap.EnvInline: inline}, ok: true, wantErr: "bootstrap: GRPC_XDS_BOOTSTRAP: open " + bad + "x: no such file or directory"},
		"bad file":     {env: map[string]string{bootstrap.EnvFile: bad}, ok: true, wantErr: "bootstrap: GRPC_XDS_BOOTSTRAP=" + bad + ": xds_servers: want a list, found a number"},
		"bad inline":   {env: map[string]string{bootstrap.EnvInline: "{"}, ok: true, wantErr: "bootstrap: GRPC_XDS_BOOTSTRAP_CONFIG: the JSON ends early"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c, ok, err := bootstrap.FromEnv(func(k string) string { return tt.env[k] })
			if ok != tt.ok {
				t.Errorf("ok = %v, want %v", ok, tt.ok)
			}
			if got := errText(err); got != tt.wantErr {
				t.Errorf("error %q, want %q", got, tt.wantErr)
			}
			if tt.wantURI != "" && (c.Servers[0].URI != tt.wantURI || c.Source != tt.wantF) {
				t.Errorf("read %q from %q, want %q from %q", c.Servers[0].URI, c.Source, tt.wantURI, tt.wantF)
			}
		})
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestDefault(t *testing.T) {
	c := bootstrap.Default("127.0.0.1:15010", bootstrap.Workload{
		Name: "reviews-v1", Namespace: "shop", Address: "10.0.0.7",
		Labels: map[string]string{"app": "reviews", "version": "v1"}, Services: []string{"reviews:9080=50051"},
		Locality: &corev3.Locality{Region: "eu", Zone: "eu-1"},
	})
	got, err := c.JSON()
	if err != nil {
		t.Fatal(err)
	}
	want := `{
  "xds_servers": [
    {
      "server_uri": "127.0.0.1:15010",
      "channel_creds": [
        {
          "type": "insecure"
        }
      ],
      "server_features": [
        "xds_v3"
      ]
    }
  ],
  "node": {
    "id": "sidecar~10.0.0.7~reviews-v1.shop~shop.svc.cluster.local",
    "metadata": {
      "GENERATOR": "grpc",
      "INSTANCE_IPS": "10.0.0.7",
      "LABELS": {
        "app": "reviews",
        "version": "v1"
      },
      "MESH_SERVICES": [
        "reviews:9080=50051"
      ],
      "NAMESPACE": "shop"
    },
    "locality": {
      "region": "eu",
      "zone": "eu-1"
    }
  },
  "server_listener_resource_name_template": "xds.istio.io/grpc/lds/inbound/%s",
  "client_default_listener_resource_name_template": "%s"
}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	var uris []string
	for _, s := range bootstrap.Default("a:1, dns:///b:2", bootstrap.Workload{}).Servers {
		uris = append(uris, s.URI+" "+s.CredsType)
	}
	if diff := cmp.Diff([]string{"a:1 insecure", "dns:///b:2 insecure"}, uris); diff != "" {
		t.Errorf("several servers: -want +got:\n%s", diff)
	}
	if got, want := bootstrap.Default("a:1", bootstrap.Workload{}).Node.GetId(), "sidecar~127.0.0.1~workload.default~default.svc.cluster.local"; got != want {
		t.Errorf("node id %q, want %q", got, want)
	}
}

// TestJSON: what is written reads the same, and gRPC takes it.
func TestJSON(t *testing.T) {
	configs := map[string]*bootstrap.Config{
		"default": bootstrap.Default("127.0.0.1:15010", bootstrap.Workload{}),
		"full":    bootstrap.Default("a:1", bootstrap.Workload{Address: "10.0.0.7", Labels: map[string]string{"a": "b"}, Services: []string{"x:1"}}),
	}
	for _, f := range []string{"istio-agent.json", "traffic-director.json"} {
		c, err := bootstrap.Parse(read(t, f))
		if err != nil {
			t.Fatal(err)
		}
		configs[f] = c
	}
	for name, c := range configs {
		t.Run(name, func(t *testing.T) {
			first, err := c.JSON()
			if err != nil {
				t.Fatal(err)
			}
			again, err := bootstrap.Parse(first)
			if err != nil {
				t.Fatal(err)
			}
			second, err := again.JSON()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(first), string(second)); diff != "" {
				t.Errorf("written and read again: -first +second:\n%s", diff)
			}
			if _, err := xds.NewXDSResolverWithConfigForTesting(first); err != nil {
				t.Errorf("gRPC does not take it: %v", err)
			}
		})
	}
	bad := bootstrap.Default("a:1", bootstrap.Workload{})
	bad.CertificateProviders = map[string]json.RawMessage{"x": json.RawMessage("{")}
	if _, err := bad.JSON(); err == nil {
		t.Error("JSON() of a provider that is no JSON: no error")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"xds_servers": [` + server + `], "node": {"id": "x", "metadata": {"a": [1, null, true, {}]}}}`))
	for _, file := range []string{"istio-agent.json", "traffic-director.json"} {
		data, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := bootstrap.Parse(data)
		if err != nil {
			return
		}
		out, err := c.JSON()
		if err != nil {
			t.Fatalf("accepted, but cannot be written: %v", err)
		}
		if _, err := bootstrap.Parse(out); err != nil {
			t.Fatalf("written, but cannot be read: %v\n%s", err, out)
		}
	})
}
