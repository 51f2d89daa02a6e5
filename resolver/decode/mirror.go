package decode

import (
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/meshframe/meshframe/mesh/fault"
	"github.com/meshframe/meshframe/mesh/snapshot"
)

var mirrorFields = newFields("cluster", "cluster_header", "runtime_fraction", "disable_shadow_host_suffix_append")

// mirrors reads request_mirror_policies. Without a fraction every request is
// copied.
func (s *scope) mirrors(list []*routev3.RouteAction_RequestMirrorPolicy) ([]snapshot.Mirror, error) {
	var out []snapshot.Mirror
	for i, m := range list {
		at := s.item("request_mirror_policies", i, "")
		mirror, err := at.mirror(m)
		if err != nil {
			return nil, err
		}
		out = append(out, mirror)
	}
	return out, nil
}

func (s *scope) mirror(m *routev3.RouteAction_RequestMirrorPolicy) (snapshot.Mirror, error) {
	out := snapshot.Mirror{Cluster: m.GetCluster(), Fraction: fault.Million, KeepAuthority: m.GetDisableShadowHostSuffixAppend()}
	if m.GetClusterHeader() != "" {
		return out, s.at("cluster_header").errorf("is not supported")
	}
	if out.Cluster == "" {
		return out, s.at("cluster").errorf("must not be empty")
	}
	s.noteRest(m, mirrorFields)
	fraction, has, err := s.at("runtime_fraction").runtimeFraction(m.GetRuntimeFraction())
	if has {
		out.Fraction = fault.Fraction(fraction)
	}
	return out, err
}
