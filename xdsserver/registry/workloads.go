package registry

import (
	"maps"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshframe/meshframe/xdsserver/config"
)

// workloads finds the workloads of a model by selector.
type workloads struct {
	byLabel map[workloadKey][]*config.WorkloadEntry // in order of precedence
}

// workloadKey is one label of workloads of a namespace.
type workloadKey struct{ namespace, label, value string }

func newWorkloads(m *config.Model) *workloads {
	out := &workloads{byLabel: map[workloadKey][]*config.WorkloadEntry{}}
	for _, e := range m.WorkloadEntries {
		for _, k := range append([]string{""}, slices.Collect(maps.Keys(e.Selectable))...) {
			at := workloadKey{e.Namespace, k, e.Selectable[k]}
			out.byLabel[at] = append(out.byLabel[at], e)
		}
	}
	return out
}

// selected returns the workloads of a namespace that have every label of a selector, in order of precedence. The label
// "" stands for all of them: no label is called so.
func (w *workloads) selected(namespace string, selector map[string]string) []*config.WorkloadEntry {
	fewest := w.byLabel[workloadKey{namespace, "", ""}]
	for k, v := range selector {
		if with := w.byLabel[workloadKey{namespace, k, v}]; len(with) < len(fewest) {
			fewest = with
		}
	}
	var out []*config.WorkloadEntry
	for _, e := range fewest {
		if config.Selects(selector, e.Selectable) {
			out = append(out, e)
		}
	}
	return out
}

// workloadEndpoint makes an endpoint of a workload; false when it has no address of its own.
func workloadEndpoint(w *config.WorkloadEntry, ports map[uint32]uint32) (Endpoint, bool) {
	return Endpoint{
		Address: unixAddress(w.Spec.Address), Ports: ports, Labels: w.Selectable, Weight: w.Spec.Weight, Locality: w.Spec.Locality,
		Network: w.Spec.Network, Namespace: w.Namespace, Workload: w.Name, ServiceAccount: w.Spec.ServiceAccount,
	}, w.Spec.Address != ""
}

// entryWorkloads are the endpoints of the workloads that a ServiceEntry selects. Without look-ups of names, those that
// have a name for an address are left out.
func entryWorkloads(selected []*config.WorkloadEntry, e *config.ServiceEntry, lookups bool) []Endpoint {
	var out []Endpoint
	for _, w := range selected {
		made, ok := workloadEndpoint(w, entryPorts(w.Spec, e.Spec.Ports))
		if ok && (lookups || !isName(made.Address)) {
			out = append(out, made)
		}
	}
	return out
}

// serviceWorkloads are the endpoints of the workloads that a Kubernetes Service selects.
func serviceWorkloads(selected []*config.WorkloadEntry, spec *corev1.ServiceSpec) []Endpoint {
	var out []Endpoint
	for _, w := range selected {
		made, ok := workloadEndpoint(w, targetPorts(w.Spec, spec.Ports))
		if ok && !isName(made.Address) {
			out = append(out, made)
		}
	}
	return out
}

// targetPorts finds the workload's port for each port of a service: the one that the workload gives the port's name, or
// the name of its target; else the target's number, else the same number.
func targetPorts(w *networking.WorkloadEntry, ports []corev1.ServicePort) map[uint32]uint32 {
	out := make(map[uint32]uint32, len(ports))
	for _, p := range ports {
		number, target := uint32(p.Port), p.TargetPort
		own, named := w.Ports[p.Name]
		if !named && target.Type == intstr.String {
			own, named = w.Ports[target.StrVal]
		}
		switch {
		case strings.HasPrefix(w.Address, "unix://"):
			out[number] = 0
		case named:
			out[number] = own
		case target.Type == intstr.Int && target.IntVal > 0:
			out[number] = uint32(target.IntVal)
		case target.Type == intstr.Int || target.StrVal == "":
			out[number] = number
		}
	}
	return out
}
