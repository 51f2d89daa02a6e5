package xdsserver

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/meshframe/meshframe/xdsserver/config"
	"github.com/meshframe/meshframe/xdsserver/support"
	"github.com/meshframe/meshframe/xdsserver/translate"
)

// node is what a client says about itself, in Istio's terms: the id "sidecar~ip~workload.namespace~domain" and the
// metadata NAMESPACE, LABELS, INSTANCE_IPS, NODE_NAME, WORKLOAD_NAME and SERVICE_ACCOUNT. MESH_SERVICES, which is ours, says which
// services the node's listeners stand for.
type node struct {
	id        string
	agent     string // what the client calls itself, with its version
	kind      translate.Client
	addresses []string // INSTANCE_IPS
	workload  string
	account   string
	services  []string // MESH_SERVICES
}

func parseNode(n *corev3.Node) (node, error) {
	who := clientOf(n)
	if reason := who.Refusal(); reason != "" {
		return node{kind: translate.Client{Type: who.Type, Release: who.Release}}, errors.New(reason)
	}
	fields := n.GetMetadata().GetFields()
	out := node{
		id:        n.GetId(),
		agent:     strings.TrimSpace(n.GetUserAgentName() + " " + agentVersion(n)),
		addresses: ips(texts(fields["INSTANCE_IPS"])),
		workload:  fields["WORKLOAD_NAME"].GetStringValue(),
		account:   fields["SERVICE_ACCOUNT"].GetStringValue(),
		services:  texts(fields["MESH_SERVICES"]),
	}
	namespace := fields["NAMESPACE"].GetStringValue()
	if parts := strings.Split(n.GetId(), "~"); len(parts) == 4 {
		name, ns, _ := strings.Cut(parts[2], ".")
		if namespace == "" {
			namespace = ns
		}
		if out.workload == "" {
			out.workload = name
		}
		if len(out.addresses) == 0 {
			out.addresses = ips([]string{parts[1]})
		}
	}
	if namespace == "" {
		namespace = config.DefaultNamespace
	}
	out.kind = translate.Client{
		Type: who.Type, Release: who.Release, Namespace: namespace, Labels: labels(fields["LABELS"]), Locality: locality(n.GetLocality()),
	}
	if name := fields["NODE_NAME"].GetStringValue(); name != "" && out.kind.Labels[translate.NodeLabel] == "" {
		out.kind.Labels[translate.NodeLabel] = name
	}
	for _, text := range out.services {
		if host, port, listen, err := parseService(text); err == nil { // else registering says so
			out.kind.Serves = append(out.kind.Serves, translate.Served{Host: host, Port: uint32(port), Listen: uint32(listen)})
		}
	}
	return out, nil
}

// clientOf tells clients apart by what they call themselves. One that is not known is taken for gRPC's C core, which
// knows the least. One of gRPC's own that does not say of which release it is, is taken for the newest.
func clientOf(n *corev3.Node) support.Client {
	agent, version := strings.ToLower(n.GetUserAgentName()), agentVersion(n)
	switch {
	case strings.HasPrefix(agent, "envoy"):
		return support.Client{Type: support.Envoy}
	case agent == "meshframe":
		return support.Client{Type: support.Meshframe}
	case agent == "meshframe sidecar":
		return support.Client{Type: support.Sidecar}
	case strings.HasPrefix(agent, "grpc go"):
		return released(support.GRPCGo, version)
	case strings.HasPrefix(agent, "grpc java"):
		return released(support.GRPCJava, version)
	case strings.HasPrefix(agent, "grpc node"):
		return released(support.GRPCNode, version)
	default:
		c := support.Client{Type: support.GRPCCore}
		if core, ok := strings.CutPrefix(version, "C-core "); ok {
			c.Release, _ = support.ParseCoreRelease(core)
		}
		return c
	}
}

func released(t support.Type, version string) support.Client {
	r, _ := support.ParseRelease(version)
	return support.Client{Type: t, Release: r}
}

// agentVersion is the version that a client gives itself, in either of the two forms; "" is none.
func agentVersion(n *corev3.Node) string {
	if v := n.GetUserAgentVersion(); v != "" {
		return v
	}
	if v := n.GetUserAgentBuildVersion().GetVersion(); v != nil {
		return fmt.Sprintf("%d.%d.%d", v.GetMajorNumber(), v.GetMinorNumber(), v.GetPatch())
	}
	return ""
}

// texts reads a list of strings, written as a list or as one string with commas.
func texts(v *structpb.Value) []string {
	var out []string
	add := func(s string) {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	switch k := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		for s := range strings.SplitSeq(k.StringValue, ",") {
			add(s)
		}
	case *structpb.Value_ListValue:
		for _, e := range k.ListValue.GetValues() {
			add(e.GetStringValue())
		}
	}
	return out
}

// ips keeps what is an IP address and names one host.
func ips(list []string) []string {
	return slices.DeleteFunc(list, func(s string) bool {
		a, err := netip.ParseAddr(s)
		return err != nil || a.IsUnspecified()
	})
}

func labels(v *structpb.Value) map[string]string {
	fields := v.GetStructValue().GetFields()
	out := make(map[string]string, len(fields))
	for k, f := range maps.All(fields) {
		if s, ok := f.GetKind().(*structpb.Value_StringValue); ok {
			out[k] = s.StringValue
		}
	}
	return out
}

// locality writes "region/zone/subzone" without what is empty at its end.
func locality(l *corev3.Locality) string {
	return strings.TrimRight(l.GetRegion()+"/"+l.GetZone()+"/"+l.GetSubZone(), "/")
}
