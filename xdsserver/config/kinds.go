package config

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	extensions "istio.io/api/extensions/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"
	networkingbeta "istio.io/api/networking/v1beta1"
	security "istio.io/api/security/v1beta1"
	telemetry "istio.io/api/telemetry/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// kind says how objects of one kind are read.
type kind struct {
	versions []string
	// spec makes an empty message for the spec field of Istio kinds, own an empty struct for that of our own kinds, object
	// an empty Kubernetes object; one is set.
	spec   func() proto.Message
	own    func() any
	object func() any
	// check validates what was read.
	check func(*reader, any)
	// unserved is the reason that Build gives for accepting the kind and not serving it, "" for kinds that are served.
	unserved string
}

const (
	networkingGroup = "networking.istio.io"
	discoveryGroup  = "discovery.k8s.io"
	meshframeGroup  = "networking.meshframe.dev"
)

// kinds are all kinds that are read, by group and kind: every kind of Istio's, our own, and of Kubernetes' the two that say
// where services are. Which kinds there are is part of the program.
var kinds = map[string]kind{
	networkingGroup + "/VirtualService":  istioKind(func() *networking.VirtualService { return &networking.VirtualService{} }, checkVirtualService, ""),
	networkingGroup + "/DestinationRule": istioKind(func() *networking.DestinationRule { return &networking.DestinationRule{} }, checkDestinationRule, ""),
	networkingGroup + "/ServiceEntry":    istioKind(func() *networking.ServiceEntry { return &networking.ServiceEntry{} }, checkServiceEntry, ""),
	networkingGroup + "/WorkloadEntry":   istioKind(func() *networking.WorkloadEntry { return &networking.WorkloadEntry{} }, checkWorkloadEntry, ""),
	networkingGroup + "/Gateway":         istioKind(func() *networking.Gateway { return &networking.Gateway{} }, checkGateway, "no gateway is configured by it"),
	networkingGroup + "/Sidecar":         istioKind(func() *networking.Sidecar { return &networking.Sidecar{} }, checkSidecar, ""),
	networkingGroup + "/EnvoyFilter":     istioKind(func() *networking.EnvoyFilter { return &networking.EnvoyFilter{} }, checkNothing, "its patches are not applied"),
	networkingGroup + "/WorkloadGroup":   istioKind(func() *networking.WorkloadGroup { return &networking.WorkloadGroup{} }, checkWorkloadGroup, "no workload is registered or probed by it"),
	networkingGroup + "/ProxyConfig":     istioKind(func() *networkingbeta.ProxyConfig { return &networkingbeta.ProxyConfig{} }, checkProxyConfig, "it configures proxies, and there are none"),

	"security.istio.io/AuthorizationPolicy":   istioKind(func() *security.AuthorizationPolicy { return &security.AuthorizationPolicy{} }, checkAuthorizationPolicy, ""),
	"security.istio.io/PeerAuthentication":    istioKind(func() *security.PeerAuthentication { return &security.PeerAuthentication{} }, checkPeerAuthentication, ""),
	"security.istio.io/RequestAuthentication": istioKind(func() *security.RequestAuthentication { return &security.RequestAuthentication{} }, checkRequestAuthentication, ""),

	"telemetry.istio.io/Telemetry":         istioKind(func() *telemetry.Telemetry { return &telemetry.Telemetry{} }, checkTelemetry, "telemetry does not follow it"),
	"extensions.istio.io/WasmPlugin":       istioKind(func() *extensions.WasmPlugin { return &extensions.WasmPlugin{} }, checkNothing, "its plugin is not run"),
	"extensions.istio.io/TrafficExtension": istioKind(func() *extensions.TrafficExtension { return &extensions.TrafficExtension{} }, checkNothing, "its extension is not run"),

	meshframeGroup + "/MeshPolicy": {versions: []string{"v1alpha1"}, own: func() any { return &MeshPolicySpec{} }, check: checkMeshPolicy},

	"/Service":                        {versions: []string{"v1"}, object: func() any { return &corev1.Service{} }, check: checkService},
	discoveryGroup + "/EndpointSlice": {versions: []string{"v1"}, object: func() any { return &discoveryv1.EndpointSlice{} }, check: checkEndpointSlice},
}

// Kind is one kind of object that Parse reads.
type Kind struct {
	Group string // "networking.istio.io"; "" for Kubernetes' core
	Name  string // "VirtualService"
	// New returns an empty value of the type that Object.Spec has.
	New func() any
}

// Kinds returns every kind that Parse reads, sorted by name.
func Kinds() []Kind {
	out := make([]Kind, 0, len(kinds))
	for key, k := range kinds {
		group, name, _ := strings.Cut(key, "/")
		made := Kind{Group: group, Name: name}
		switch {
		case k.spec != nil:
			made.New = func() any { return k.spec() }
		case k.own != nil:
			made.New = k.own
		default:
			made.New = k.object
		}
		out = append(out, made)
	}
	slices.SortFunc(out, func(a, b Kind) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func istioKind[M proto.Message](spec func() M, check func(*reader, M), unserved string) kind {
	return kind{
		versions: []string{"v1", "v1beta1", "v1alpha3", "v1alpha1"},
		spec:     func() proto.Message { return spec() },
		check:    func(r *reader, v any) { check(r, v.(M)) },
		unserved: unserved,
	}
}

func checkNothing[M proto.Message](*reader, M) {}

// removed are groups of Istio's that are gone. Their objects held policies, so they are not passed over in silence.
var removed = map[string]string{
	"config.istio.io":         "Mixer's API was removed from Istio in version 1.8; write rateLimit in a MeshPolicy, or an AuthorizationPolicy",
	"authentication.istio.io": "this API was removed from Istio in version 1.6; write PeerAuthentication and RequestAuthentication",
	"rbac.istio.io":           "this API was removed from Istio in version 1.6; write AuthorizationPolicy",
}

// isIstio reports whether an API group is Istio's own, or ours: of those every kind must be known.
func isIstio(group string) bool {
	return strings.HasSuffix(group, ".istio.io") && group != "install.istio.io" || group == meshframeGroup
}

// kindsOf lists the kinds of a group, for messages.
func kindsOf(group string) []string {
	var out []string
	for name := range kinds {
		if k, ok := strings.CutPrefix(name, group+"/"); ok {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

// misspelt returns the group that someone meant who wrote a known kind with a group that is none of its own: no group at
// all, or one that is nearly right. It is "" when the kind is simply somebody else's.
func misspelt(group, kind string) string {
	for name := range kinds {
		g, k, _ := strings.Cut(name, "/")
		if k == kind && g != "" && (group == "" || nearest(group, []string{g}) != "") {
			return g
		}
	}
	return ""
}

// splitVersion cuts "networking.istio.io/v1" into group and version; Kubernetes' core group is "".
func splitVersion(apiVersion string) (group, version string) {
	if i := strings.LastIndexByte(apiVersion, '/'); i >= 0 {
		return apiVersion[:i], apiVersion[i+1:]
	}
	return "", apiVersion
}

// Group returns the object's API group, "" for Kubernetes' core.
func (m *Meta) Group() string {
	group, _ := splitVersion(m.APIVersion)
	return group
}
