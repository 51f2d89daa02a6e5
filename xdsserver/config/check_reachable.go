package config

import (
	"google.golang.org/protobuf/proto"

	networking "istio.io/api/networking/v1alpha3"
)

// checkReachable warns about routes that no request can reach, because the first route that fits is taken.
func checkReachable(r *reader, routes []*networking.HTTPRoute) {
	everything := -1
	seen := map[string]int{}
	for i, route := range routes {
		path := element("spec.http", i)
		if everything >= 0 {
			r.warnf(path, "never used: http[%d] has no match and takes every request", everything)
			continue
		}
		if len(route.Match) == 0 {
			everything = i
			continue
		}
		checkMatches(r, path, i, route.Match, seen)
	}
}

func checkMatches(r *reader, path string, index int, matches []*networking.HTTPMatchRequest, seen map[string]int) {
	for j, m := range matches {
		key := matchKey(m)
		if first, ok := seen[key]; ok && first != index {
			r.warnf(element(field(path, "match"), j), "never used: http[%d] matches the same requests", first)
		} else if !ok {
			seen[key] = index
		}
	}
}

// matchKey is equal for matches that match the same.
func matchKey(m *networking.HTTPMatchRequest) string {
	m = proto.CloneOf(m)
	m.Name, m.StatPrefix = "", ""
	b, _ := proto.MarshalOptions{Deterministic: true}.Marshal(m) // it was read from text and can be written
	return string(b)
}
