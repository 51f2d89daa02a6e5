package bootstrap

import (
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/structpb"
)

// Config is a bootstrap. Nothing in it refers to a running client.
type Config struct {
	// Source says where it was read: an environment variable with its file, or
	// "" if it was not.
	Source string

	// Servers are the control planes in order of preference; at least one. A
	// later one is for when those before it cannot be reached (gRFC A71), which
	// here needs no environment variable to be switched on.
	Servers []Server

	// Node identifies this process. Never nil.
	Node *corev3.Node

	// CertificateProviders are the certificate provider instances by name, each
	// as written: {"plugin_name": …, "config": …}.
	CertificateProviders map[string]json.RawMessage

	// ServerListenerResourceNameTemplate names the listener resource of a
	// server; "%s" stands for its listening address. "" means that there are
	// none.
	ServerListenerResourceNameTemplate string

	// ClientDefaultListenerResourceNameTemplate names the listener resource of
	// a client; "%s" stands for the target. Default: "%s".
	ClientDefaultListenerResourceNameTemplate string

	// Authorities configure new-style names (xdstp://), which are not resolved
	// yet; where a bootstrap depends on them, Parse refuses it.
	Authorities map[string]Authority

	// Warnings are what was ignored, with its path.
	Warnings []string
}

// Server is a control plane.
type Server struct {
	// URI is a gRPC target.
	URI string

	// Creds is made of the first entry of channel_creds that is supported.
	Creds credentials.TransportCredentials

	// CredsType and CredsConfig are that entry as written.
	CredsType   string
	CredsConfig json.RawMessage

	// Features are the server_features.
	Features []string
}

// FeatureIgnoreResourceDeletion is the server feature of gRFC A53.
const FeatureIgnoreResourceDeletion = "ignore_resource_deletion"

// IgnoreResourceDeletion reports whether resources that the server deletes are
// to be kept (gRFC A53).
func (s *Server) IgnoreResourceDeletion() bool {
	return slices.Contains(s.Features, FeatureIgnoreResourceDeletion)
}

// Authority configures the names of one authority (gRFC A47).
type Authority struct {
	// ClientListenerResourceNameTemplate names the listener resource of a
	// client; "%s" stands for the target.
	ClientListenerResourceNameTemplate string
	// Servers serve the authority; empty means those of Config.
	Servers []Server
}

// ServerListenerName returns the name of the listener resource of a server that
// listens on address (IP:port), or "" if there is no template.
func (c *Config) ServerListenerName(address string) string {
	return expand(c.ServerListenerResourceNameTemplate, address)
}

// ClientListenerName returns the name of the listener resource of a target.
func (c *Config) ClientListenerName(target string) string {
	return expand(c.ClientDefaultListenerResourceNameTemplate, target)
}

// expand fills in a template; in new-style names the value is escaped.
func expand(template, value string) string {
	if strings.HasPrefix(template, newStyle) {
		value = (&url.URL{Path: value}).EscapedPath()
	}
	return strings.ReplaceAll(template, "%s", value)
}

// Workload is what Default tells the control plane about a process. Every field
// may be empty.
type Workload struct {
	// Name is the workload's name, such as a pod's. Default: "workload".
	Name string
	// Namespace. Default: "default".
	Namespace string
	// Address is the IP address others reach it by. Default: "127.0.0.1", which
	// is then not announced.
	Address string
	// Domain is the mesh's DNS domain. Default: "cluster.local".
	Domain string
	// Labels are matched by subsets.
	Labels map[string]string
	// Services are the services that its servers stand for, as "host:port" or
	// "host:port=listenPort".
	Services []string
	// Locality is where it runs; nil means unknown.
	Locality *corev3.Locality
}

// DefaultServerTemplate names the listener resource of a server as Istio does.
const DefaultServerTemplate = "xds.istio.io/grpc/lds/inbound/%s"

// Default returns a bootstrap for the control plane at address, such as
// "127.0.0.1:15010", or for several in order of preference, with commas between
// them, in plaintext. The node is one that Istio's control plane
// would take for a proxyless gRPC workload, plus the metadata MESH_SERVICES.
func Default(address string, w Workload) *Config {
	ip, namespace := or(w.Address, "127.0.0.1"), or(w.Namespace, "default")
	domain := namespace + ".svc." + or(w.Domain, "cluster.local")
	meta := map[string]*structpb.Value{
		"GENERATOR": structpb.NewStringValue("grpc"),
		"NAMESPACE": structpb.NewStringValue(namespace),
	}
	if w.Address != "" {
		meta["INSTANCE_IPS"] = structpb.NewStringValue(w.Address)
	}
	if len(w.Labels) > 0 {
		labels := &structpb.Struct{Fields: map[string]*structpb.Value{}}
		for k, v := range w.Labels {
			labels.Fields[k] = structpb.NewStringValue(v)
		}
		meta["LABELS"] = structpb.NewStructValue(labels)
	}
	if len(w.Services) > 0 {
		list := &structpb.ListValue{}
		for _, s := range w.Services {
			list.Values = append(list.Values, structpb.NewStringValue(s))
		}
		meta["MESH_SERVICES"] = structpb.NewListValue(list)
	}
	var servers []Server
	for uri := range strings.SplitSeq(address, ",") {
		servers = append(servers, Server{
			URI: strings.TrimSpace(uri), Creds: insecure.NewCredentials(), CredsType: credsInsecure, Features: []string{"xds_v3"},
		})
	}
	return &Config{
		Servers: servers,
		Node: &corev3.Node{
			Id:       strings.Join([]string{"sidecar", ip, or(w.Name, "workload") + "." + namespace, domain}, "~"),
			Metadata: &structpb.Struct{Fields: meta},
			Locality: w.Locality,
		},
		ServerListenerResourceNameTemplate:        DefaultServerTemplate,
		ClientDefaultListenerResourceNameTemplate: "%s",
	}
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// The JSON form of a bootstrap.
//
//nolint:tagliatelle // gRPC's names
type (
	jsonConfig struct {
		Servers         []jsonServer               `json:"xds_servers"`
		Node            jsonNode                   `json:"node"`
		Providers       map[string]json.RawMessage `json:"certificate_providers,omitempty"`
		Authorities     map[string]jsonAuthority   `json:"authorities,omitempty"`
		ServerTemplate  string                     `json:"server_listener_resource_name_template,omitempty"`
		ClientTemplates string                     `json:"client_default_listener_resource_name_template,omitempty"`
	}
	jsonServer struct {
		URI      string      `json:"server_uri"`
		Creds    []jsonCreds `json:"channel_creds"`
		Features []string    `json:"server_features,omitempty"`
	}
	jsonCreds struct {
		Type   string          `json:"type"`
		Config json.RawMessage `json:"config,omitempty"`
	}
	jsonNode struct {
		ID       string         `json:"id"`
		Cluster  string         `json:"cluster,omitempty"`
		Metadata map[string]any `json:"metadata,omitempty"`
		Locality jsonLocality   `json:"locality"` // grpc-js insists on it
	}
	jsonLocality struct {
		Region  string `json:"region,omitempty"`
		Zone    string `json:"zone,omitempty"`
		SubZone string `json:"sub_zone,omitempty"`
	}
	jsonAuthority struct {
		Template string       `json:"client_listener_resource_name_template,omitempty"`
		Servers  []jsonServer `json:"xds_servers,omitempty"`
	}
)

// JSON writes a bootstrap that any gRPC client takes. It fails only if a
// certificate provider or the configuration of credentials is not JSON.
func (c *Config) JSON() ([]byte, error) {
	l := c.Node.GetLocality()
	out := jsonConfig{
		Servers: jsonServers(c.Servers),
		Node: jsonNode{
			ID: c.Node.GetId(), Cluster: c.Node.GetCluster(), Metadata: c.Node.GetMetadata().AsMap(),
			Locality: jsonLocality{Region: l.GetRegion(), Zone: l.GetZone(), SubZone: l.GetSubZone()},
		},
		Providers:       maps.Clone(c.CertificateProviders),
		ServerTemplate:  c.ServerListenerResourceNameTemplate,
		ClientTemplates: c.ClientDefaultListenerResourceNameTemplate,
	}
	for name, a := range c.Authorities {
		if out.Authorities == nil {
			out.Authorities = map[string]jsonAuthority{}
		}
		out.Authorities[name] = jsonAuthority{Template: a.ClientListenerResourceNameTemplate, Servers: jsonServers(a.Servers)}
	}
	return json.MarshalIndent(out, "", "  ")
}

func jsonServers(list []Server) []jsonServer {
	var out []jsonServer
	for _, s := range list {
		out = append(out, jsonServer{URI: s.URI, Creds: []jsonCreds{{Type: s.CredsType, Config: s.CredsConfig}}, Features: s.Features})
	}
	return out
}
