package config

import "strings"

// Distribution says which endpoints of a service its callers prefer.
type Distribution uint8

const (
	// Anywhere prefers none.
	Anywhere Distribution = iota
	// SameZone prefers those in the caller's zone, then in its region, then in its network.
	SameZone
	// SameNode prefers those on the caller's node, then in its subzone, then as SameZone.
	SameNode
)

// distributionAnnotation is Istio's, for objects and versions of Kubernetes that have no field for it.
const distributionAnnotation = "networking.istio.io/traffic-distribution"

// DistributionOf reads trafficDistribution of a Kubernetes Service, where it is nil the annotation.
func DistributionOf(field *string, annotations map[string]string) Distribution {
	text := strings.ToLower(annotations[distributionAnnotation])
	if field != nil {
		text = strings.ToLower(*field)
	}
	switch text {
	case "preferclose", "prefersamezone":
		return SameZone
	case "prefersamenode":
		return SameNode
	default:
		return Anywhere
	}
}
