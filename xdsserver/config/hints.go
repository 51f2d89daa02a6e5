package config

import (
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// misplaced says what to write instead of a field that people write and that does not exist, by message and field.
var misplaced = map[protoreflect.FullName]map[string]string{
	"istio.networking.v1alpha3.Destination": {
		"weight": "weight belongs beside destination, not inside it: indent it like \"destination:\"",
		"name":   "the name of a destination is written as host",
	},
	"istio.networking.v1alpha3.HTTPFaultInjection.Abort": {
		"percent": "percent was removed from Istio's API, and without a percentage no request is aborted; write percentage: {value: ...}",
	},
	"istio.networking.v1alpha3.HTTPRoute": {
		"websocketUpgrade":      "removed from Istio's API; WebSocket upgrades need no setting any more, leave it out",
		"appendHeaders":         "removed from Istio's API; write headers: {request: {add: ...}}",
		"appendRequestHeaders":  "removed from Istio's API; write headers: {request: {add: ...}}",
		"removeRequestHeaders":  "removed from Istio's API; write headers: {request: {remove: [...]}}",
		"appendResponseHeaders": "removed from Istio's API; write headers: {response: {add: ...}}",
		"removeResponseHeaders": "removed from Istio's API; write headers: {response: {remove: [...]}}",
		"destination":           "a destination is an element of route: write route: [{destination: ...}]",
		"weight":                "weight belongs to an element of route, beside its destination",
	},
	"istio.networking.v1alpha3.HTTPRouteDestination": {
		"appendRequestHeaders":  "removed from Istio's API; write headers: {request: {add: ...}}",
		"removeRequestHeaders":  "removed from Istio's API; write headers: {request: {remove: [...]}}",
		"appendResponseHeaders": "removed from Istio's API; write headers: {response: {add: ...}}",
		"removeResponseHeaders": "removed from Istio's API; write headers: {response: {remove: [...]}}",
		"host":                  "host belongs inside destination: write destination: {host: ...}",
		"subset":                "subset belongs inside destination: write destination: {host: ..., subset: ...}",
	},
	"istio.networking.v1alpha3.PortSelector": {
		"name": "ports are selected by number: write number: 9080",
	},
	"istio.networking.v1alpha3.L4MatchAttributes": {
		"sourceSubnet": "removed from Istio's API, there is nothing in its place",
	},
}

// replacements says what to write instead of a deprecated field or enum value.
var replacements = map[protoreflect.FullName]string{
	"istio.networking.v1alpha3.HTTPRoute.mirror_percent":                                "mirrorPercentage: {value: ...}",
	"istio.networking.v1alpha3.HTTPFaultInjection.Delay.percent":                        "percentage: {value: ...}",
	"istio.networking.v1alpha3.CorsPolicy.allow_origin":                                 "allowOrigins: [{exact: ...}]",
	"istio.networking.v1alpha3.OutlierDetection.consecutive_errors":                     "consecutive5xxErrors or consecutiveGatewayErrors",
	"istio.networking.v1alpha3.LoadBalancerSettings.ConsistentHashLB.minimum_ring_size": "ringHash: {minimumRingSize: ...}",
	"istio.networking.v1alpha3.LoadBalancerSettings.warmup_duration_secs":               "warmup: {duration: ...}",
	"istio.networking.v1alpha3.LoadBalancerSettings.LEAST_CONN":                         "LEAST_REQUEST",
}

func (r *reader) unknownField(e entry, m protoreflect.MessageDescriptor, path string) {
	if hint, ok := misplaced[m.FullName()][e.key]; ok {
		r.at(Error, e.at.Line, field(path, e.key), "%s", hint)
		return
	}
	names := make([]string, m.Fields().Len())
	for i := range names {
		names[i] = m.Fields().Get(i).JSONName()
	}
	r.unknown(e, path, string(m.Name()), names)
}

func (r *reader) deprecatedField(e entry, f protoreflect.FieldDescriptor, path string) {
	options, _ := f.Options().(*descriptorpb.FieldOptions)
	instead, known := replacements[f.FullName()]
	switch {
	case known:
		r.at(Warning, e.at.Line, field(path, e.key), "deprecated by Istio; write %s", instead)
	case options.GetDeprecated():
		r.at(Warning, e.at.Line, field(path, e.key), "deprecated by Istio")
	}
}

func (r *reader) deprecatedEnum(n *yaml.Node, f protoreflect.FieldDescriptor, number protoreflect.EnumNumber, path string) {
	v := f.Enum().Values().ByNumber(number)
	if instead, known := replacements[v.FullName()]; known {
		r.at(Warning, n.Line, path, "%s is deprecated by Istio; write %s", v.Name(), instead)
	}
}
