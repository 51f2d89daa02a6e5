package config

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// metadataFields are the fields of Kubernetes' metadata.
var metadataFields = []string{
	"name", "namespace", "labels", "annotations", "creationTimestamp", "generateName", "uid", "resourceVersion",
	"generation", "managedFields", "selfLink", "ownerReferences", "finalizers", "deletionTimestamp",
	"deletionGracePeriodSeconds", "clusterName",
}

// metadata reads the fields of metadata that matter and checks the names of the others.
func (r *reader) metadata(n *yaml.Node) {
	r.meta.Namespace = DefaultNamespace
	if n == nil {
		r.errorf("metadata", "missing: every object has a metadata.name")
		return
	}
	if n.Kind != yaml.MappingNode {
		r.at(Error, n.Line, "metadata", "want a mapping, have %s", describe(n))
		return
	}
	// The name first, so that every other message can say whose it is.
	top := entries(n, func(_, _ *yaml.Node) {})
	r.meta.Name = r.metaString(top, "name")
	top = r.entries(n, "metadata")
	if ns := r.metaString(top, "namespace"); ns != "" {
		r.meta.Namespace = ns
	}
	r.metaNames(top)
	r.meta.Labels, r.meta.Annotations = r.metaMap(top, "labels"), r.metaMap(top, "annotations")
	if v := find(top, "creationTimestamp"); v != nil {
		created, err := time.Parse(time.RFC3339, v.Value)
		if err != nil {
			r.at(Error, v.Line, "metadata.creationTimestamp", `want a time such as "2026-01-31T12:00:00Z", have %s`, describe(v))
		}
		r.meta.Created = created
	}
	for _, e := range top {
		if !slices.Contains(metadataFields, e.key) {
			r.unknown(e, "metadata", "", metadataFields)
		}
	}
}

func (r *reader) metaNames(top []entry) {
	const name, namespace = "metadata.name", "metadata.namespace"
	switch {
	case r.failedAt(name):
	case r.meta.Name == "" && find(top, "generateName") != nil:
		r.errorf(name, "missing: generateName needs an API server that makes up a name")
	case r.meta.Name == "":
		r.errorf(name, "missing or empty")
	case !isSubdomain(r.meta.Name):
		r.errorf(name, "%q is no name: want lower case letters, digits, '-' and '.'", shorten(r.meta.Name))
	}
	if !isLabel(r.meta.Namespace) && !r.failedAt(namespace) {
		r.errorf(namespace, "%q is no namespace: want lower case letters, digits and '-'", shorten(r.meta.Namespace))
	}
}

func (r *reader) metaString(top []entry, key string) string {
	v := find(top, key)
	if v == nil {
		return ""
	}
	s, bad := readString(v)
	if bad != "" {
		r.at(Error, v.Line, field("metadata", key), "%s", bad)
	}
	return s
}

func (r *reader) metaMap(top []entry, key string) map[string]string {
	v := find(top, key)
	if v == nil {
		return nil
	}
	path := field("metadata", key)
	if v.Kind != yaml.MappingNode {
		r.at(Error, v.Line, path, "want a mapping, have %s", describe(v))
		return nil
	}
	out := map[string]string{}
	for _, e := range r.entries(v, path) {
		if isNull(e.value) {
			out[e.key] = ""
			continue
		}
		s, bad := readString(e.value)
		if bad != "" {
			r.at(Error, e.value.Line, element(path, e.key), "%s", bad)
		}
		out[e.key] = s
	}
	return out
}

// digest is equal for objects that mean the same, wherever and however they are written.
func digest(o *Object) [sha256.Size]byte {
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%s\x00%s\x00%s\x00%d\x00", o.Group(), o.Kind, o.Namespace, o.Name, o.Created.UnixNano())
	for _, m := range []map[string]string{o.Labels, o.Annotations} {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			fmt.Fprintf(h, "%q=%q,", k, m[k])
		}
		h.Write([]byte{0})
	}
	// Neither encoding can fail: the messages were read from text and hold nothing that cannot be written.
	var content []byte
	switch spec := o.Spec.(type) {
	case proto.Message:
		content, _ = proto.MarshalOptions{Deterministic: true}.Marshal(spec)
	case *MeshPolicySpec:
		content, _ = json.Marshal(spec)
	case *corev1.Service:
		content, _ = json.Marshal(spec.Spec)
	case *discoveryv1.EndpointSlice:
		content, _ = json.Marshal(discoveryv1.EndpointSlice{AddressType: spec.AddressType, Endpoints: spec.Endpoints, Ports: spec.Ports, ObjectMeta: metav1.ObjectMeta{Name: spec.Name}})
	}
	h.Write(content)
	return [sha256.Size]byte(h.Sum(nil))
}
