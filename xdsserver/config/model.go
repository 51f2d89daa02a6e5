package config

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	networking "istio.io/api/networking/v1alpha3"
)

// Model is the whole configuration, valid, with defaults filled in and short names resolved. It is immutable and safe
// for concurrent use. Every list is in Istio's order of precedence: oldest first, then by name, then by namespace;
// objects without a creation time come first.
type Model struct {
	Domain           string // of the cluster, "cluster.local"
	VirtualServices  []*VirtualService
	DestinationRules []*DestinationRule
	ServiceEntries   []*ServiceEntry
	WorkloadEntries  []*WorkloadEntry
	Services         []*Service
	EndpointSlices   []*EndpointSlice
	Sidecars         []*Sidecar
	Policies         []*MeshPolicy
	// Other holds the objects that were accepted and are not served: Gateway, Telemetry and so on, and under
	// Options.AllowUnenforced the security policies.
	Other []*Object
	// Kept names the files whose present content was refused and whose previous objects are in force instead.
	Kept []string

	files  map[string]*held  // what each file contributes
	origin map[string]string // the file of each object, by its key
	views  map[string]*view  // what was made of each object, by its key

	sidecars map[string][]*Sidecar    // by namespace
	policies map[string][]*MeshPolicy // by host
}

// VirtualService is a routing rule with every host fully qualified and with the routes that it delegates in place of the
// delegation. Rules without hosts, which are there to be delegated to, are in no list.
type VirtualService struct {
	*Meta
	// Spec has Hosts, Gateways and every destination resolved as Hosts and Gateways below. It must not be written to.
	// Fields of delegated routes have no line in Meta.
	Spec     *networking.VirtualService
	Hosts    []string // fully qualified, wildcards as written
	Gateways []string // "mesh" or "namespace/name"; never empty
	ExportTo Visibility
}

// InMesh reports whether the rule applies to calls between services (its gateways are absent or name "mesh").
func (v *VirtualService) InMesh() bool {
	return slices.Contains(v.Gateways, MeshGateway)
}

// MeshGateway is the reserved gateway name that stands for all clients in the mesh.
const MeshGateway = "mesh"

// DestinationRule is a traffic policy for one host.
type DestinationRule struct {
	*Meta
	Spec     *networking.DestinationRule // Host resolved; must not be written to
	Host     string                      // fully qualified, wildcards as written
	ExportTo Visibility
}

// ServiceEntry declares services outside of any registry.
type ServiceEntry struct {
	*Meta
	Spec *networking.ServiceEntry // must not be written to
	// Hosts are the names of the services. Unlike Istio, which takes them as they are, names without a dot are resolved
	// like those of rules, so that both mean the same service.
	Hosts    []string
	ExportTo Visibility
}

// WorkloadEntry declares one workload.
type WorkloadEntry struct {
	*Meta
	Spec *networking.WorkloadEntry // must not be written to
	// Selectable are the labels that selectors and subsets see: those of the object, and over them those of its spec.
	Selectable map[string]string
}

// Service is a Kubernetes Service.
type Service struct {
	*Meta
	Spec     *corev1.Service // the whole object; must not be written to
	Host     string          // name.namespace.svc.domain
	ExportTo Visibility      // from the annotation networking.istio.io/exportTo
}

// EndpointSlice is a Kubernetes EndpointSlice.
type EndpointSlice struct {
	*Meta
	Spec *discoveryv1.EndpointSlice // the whole object; must not be written to
	Host string                     // of the Service that it belongs to, "" when it names none
}

// Sidecar limits which services the workloads of its namespace see, and says what becomes of their calls to hosts that
// are none.
type Sidecar struct {
	*Meta
	Spec *networking.Sidecar // must not be written to

	egress []egressListener
}

// MeshPolicy is a policy for one host beside its DestinationRule.
type MeshPolicy struct {
	*Meta
	// Spec has every host resolved and every default filled in, but for pointers, whose default is nil. It must not be
	// written to.
	Spec     *MeshPolicySpec
	Host     string // fully qualified, wildcards as written
	ExportTo Visibility
}

// Visibility says which namespaces an object is exported to: Istio's exportTo. The zero value is everywhere.
type Visibility struct {
	restricted bool
	namespaces []string // with "." resolved
}

// In reports whether the object can be seen from a namespace.
func (v Visibility) In(namespace string) bool {
	return !v.restricted || slices.Contains(v.namespaces, namespace)
}

// Everywhere reports whether the object can be seen from every namespace.
func (v Visibility) Everywhere() bool { return !v.restricted }
