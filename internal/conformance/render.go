package conformance

import (
	"maps"
	"strings"

	"go.yaml.in/yaml/v3"
)

// render adds to the row's YAML the resources that it has in short.
func (r *Row) render() error {
	if r.Bare {
		return nil
	}
	rule := map[string]any{"host": "reviews", "subsets": subsets(r.Servers)}
	if r.TrafficPolicy != nil {
		rule["trafficPolicy"] = r.TrafficPolicy
	}
	resources := []map[string]any{resource("networking.istio.io/v1", "DestinationRule", rule)}
	if r.HTTP != nil {
		resources = append(resources, resource("networking.istio.io/v1", "VirtualService",
			map[string]any{"hosts": []string{"reviews"}, "http": r.HTTP}))
	}
	if r.MeshPolicy != nil {
		policy := maps.Clone(r.MeshPolicy)
		policy["host"] = "reviews"
		resources = append(resources, resource("networking.meshframe.dev/v1alpha1", "MeshPolicy", policy))
	}
	documents := make([]string, 0, len(resources)+1)
	for _, resource := range resources {
		text, err := yaml.Marshal(resource)
		if err != nil {
			return err
		}
		documents = append(documents, string(text))
	}
	r.Config = strings.Join(append(documents, r.Config), "---\n")
	return nil
}

// subsets are those of the versions that servers have.
func subsets(servers []Server) []map[string]any {
	var list []map[string]any
	seen := map[string]bool{}
	for _, s := range servers {
		if version := s.Labels["version"]; version != "" && !seen[version] {
			seen[version] = true
			list = append(list, map[string]any{"name": version, "labels": map[string]string{"version": version}})
		}
	}
	return list
}

func resource(version, kind string, spec any) map[string]any {
	return map[string]any{
		"apiVersion": version, "kind": kind, "metadata": map[string]string{"name": "reviews"}, "spec": spec,
	}
}
