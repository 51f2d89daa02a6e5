package srvframe

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/meshframe/meshframe/resolver/bootstrap"
)

// bootstrapText is the least that gRPC takes.
const bootstrapText = `{"xds_servers":[{"server_uri":"127.0.0.1:15010","channel_creds":[{"type":"insecure"}]}],
	"node":{"id":"sidecar~10.0.0.7~web.shop~shop.svc.cluster.local"}}`

func TestEnvironmentOptions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bootstrap.json")
	if err := os.WriteFile(file, []byte(bootstrapText), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		env    map[string]string
		want   Options
		source string // of the bootstrap
		none   bool
		fails  string
	}{
		{name: "empty", none: true},
		{name: "no control plane", env: map[string]string{"MESH_SERVICE": "reviews:9080", "MESH_LABELS": "bad"}, none: true},
		{
			name: "address",
			env: map[string]string{
				"MESH_XDS": "127.0.0.1:15010", "MESH_SERVICE": "reviews:9080", "MESH_NAMESPACE": "shop",
				"MESH_LABELS": "app=reviews, version=v2,empty=", "MESH_ADDRESS": "10.0.0.7",
				"MESH_LOCALITY": "eu/eu-1", "MESH_STATE": "/var/lib/mesh",
			},
			want: Options{
				XDS: "127.0.0.1:15010", Service: "reviews:9080", Namespace: "shop", Address: "10.0.0.7",
				Labels:   map[string]string{"app": "reviews", "version": "v2", "empty": ""},
				Locality: "eu/eu-1", StateDir: "/var/lib/mesh",
			},
		},
		{
			name:   "bootstrap file before the rest",
			env:    map[string]string{"GRPC_XDS_BOOTSTRAP": file, "GRPC_XDS_BOOTSTRAP_CONFIG": "inline", "MESH_XDS": "x:1"},
			source: "GRPC_XDS_BOOTSTRAP=" + file,
		},
		{
			name: "bootstrap before address",
			env:  map[string]string{"GRPC_XDS_BOOTSTRAP_CONFIG": bootstrapText, "MESH_XDS": "x:1", "MESH_SERVICE": "reviews:9080"},
			want: Options{Service: "reviews:9080"}, source: "GRPC_XDS_BOOTSTRAP_CONFIG",
		},
		{name: "no such file", env: map[string]string{"GRPC_XDS_BOOTSTRAP": file + "x"}, fails: "GRPC_XDS_BOOTSTRAP: open "},
		{
			name: "bad labels", env: map[string]string{"MESH_XDS": "x:1", "MESH_LABELS": "app=reviews,v2"},
			fails: `MESH_LABELS: label "v2": want key=value`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			getenv := func(key string) string { return test.env[key] }
			got, config, ok, err := environmentOptions(getenv)
			if test.fails != "" {
				if err == nil || !strings.Contains(err.Error(), test.fails) {
					t.Fatalf("error %q, want %q", err, test.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if ok == test.none {
				t.Errorf("names a mesh: %v", ok)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("options (-want +got):\n%s", diff)
			}
			if (config == nil) != (test.source == "") || config != nil && config.Source != test.source {
				t.Errorf("bootstrap %+v, want source %q", config, test.source)
			}
		})
	}
}

// setEnvironment gives the package a fresh environment for one test, and
// returns what it logs.
func setEnvironment(t *testing.T, env map[string]string) *bytes.Buffer {
	t.Helper()
	log := &bytes.Buffer{}
	before := environment
	environment = &environmentMesh{
		getenv: func(key string) string { return env[key] },
		logger: func() *slog.Logger { return slog.New(slog.NewTextHandler(log, nil)) },
	}
	t.Cleanup(func() {
		if environment.mesh != nil {
			if err := environment.mesh.Close(); err != nil {
				t.Error(err)
			}
		}
		environment = before
	})
	return log
}

// TestPlain shows that without a mesh everything is plain gRPC, that this is
// said once, and that a mesh can be joined later.
func TestPlain(t *testing.T) {
	env := map[string]string{}
	log := setEnvironment(t, env)
	plain := WithTransportCredentials(insecure.NewCredentials())
	for _, target := range []string{"reviews:9080", "xds-is-a-host:80", "passthrough:///x", "localhost:80"} {
		cc, err := NewClient(target, plain)
		if err != nil {
			t.Fatalf("%s: %v", target, err)
		}
		if got := cc.Target(); got != target {
			t.Errorf("target %q became %q", target, got)
		}
		closeClient(t, cc)
	}
	if _, err := NewClient("reviews:9080"); err == nil || !strings.Contains(err.Error(), "no transport security set") {
		t.Errorf("without credentials: error %v, want gRPC's own", err)
	}
	if _, err := NewClient("mesh:///reviews:9080"); !errors.Is(err, ErrNoMesh) {
		t.Errorf("mesh target: error %v, want ErrNoMesh", err)
	}
	server := NewServer()
	if server.mesh != nil {
		t.Error("server belongs to a mesh")
	}
	server.Stop()
	if n := strings.Count(log.String(), "plain gRPC"); n != 1 {
		t.Errorf("said %d times:\n%s", n, log)
	}

	env[envXDS] = "127.0.0.1:1"
	cc, err := NewClient("reviews:9080")
	if err != nil {
		t.Fatal(err)
	}
	if got := cc.Target(); got != "mesh:///reviews:9080" {
		t.Errorf("after joining the target is %q", got)
	}
	closeClient(t, cc)
	if server := NewServer(); server.mesh == nil {
		t.Error("after joining a server belongs to no mesh")
	}
}

// TestWrongEnvironment shows what an environment gets that cannot be read: one
// clear line for what needs it, and nothing for what does not.
func TestWrongEnvironment(t *testing.T) {
	for _, test := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{envXDS: "15010"}, `MESH_XDS: address of the control plane "15010": want host:port`},
		{map[string]string{envXDS: "127.0.0.1:xds"}, `MESH_XDS: address of the control plane "127.0.0.1:xds": port "xds"`},
		{map[string]string{envXDS: "127.0.0.1:15010", envService: "reviews"}, `MESH_SERVICE: service "reviews": want host:port`},
		{map[string]string{envXDS: "127.0.0.1:15010", envAddress: "0.0.0.0"}, `MESH_ADDRESS: address "0.0.0.0"`},
		{map[string]string{envXDS: "127.0.0.1:15010", envLabels: "v2"}, `MESH_LABELS: label "v2": want key=value`},
		{map[string]string{envXDS: "127.0.0.1:15010", envNamespace: "a b"}, `MESH_NAMESPACE: namespace "a b": want lower-case letters, digits and dashes, 63 at most`},
		{map[string]string{envXDS: "127.0.0.1:15010", envLocality: "eu//a"}, `MESH_LOCALITY: locality "eu//a": want region/zone/subzone`},
		{map[string]string{envXDS: "127.0.0.1:15010", envState: "/dev/null/state"}, "MESH_STATE: "},
		{map[string]string{bootstrap.EnvInline: `{"xds_servers":7,"node":7}`}, "xds_servers"},
		{map[string]string{bootstrap.EnvFile: "no such file"}, "no such file"},
	} {
		t.Run(test.want, func(t *testing.T) {
			setEnvironment(t, test.env)
			_, err := NewClient("reviews:9080")
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("NewClient: error %q, want one line with %q", err, test.want)
			}
			cc, err := NewClient("localhost:9080", grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatalf("a target outside the mesh: %v", err)
			}
			closeClient(t, cc)
			server := NewServer()
			if err := server.Serve(listen(t)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Serve: error %v, want %q", err, test.want)
			}
			server.Stop()
		})
	}
}
