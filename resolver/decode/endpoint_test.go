package decode_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/meshframe/meshframe/mesh/snapshot"
	"github.com/meshframe/meshframe/resolver/decode"
)

func socket(address string, port int) string {
	return fmt.Sprintf(`{"socket_address": {"address": %q, "port_value": %d}}`, address, port)
}

func lbEndpoint(address string, port int, fields ...string) string {
	return `{` + join(append([]string{`"endpoint": {"address": ` + socket(address, port) + `}`}, fields...)...) + `}`
}

func assignment(localities ...string) string {
	return `{"cluster_name": "c", "endpoints": [` + strings.Join(localities, ",") + `]}`
}

func TestClusterLoadAssignment(t *testing.T) {
	json := `{"cluster_name": "c", "policy": {"overprovisioning_factor": 100, "drop_overloads": [{"category": "x"}]}, "endpoints": [
		{"locality": {"region": "r", "zone": "z", "sub_zone": "s"}, "load_balancing_weight": 3, "lb_endpoints": [
			` + lbEndpoint("10.0.0.1", 80, `"load_balancing_weight": 7`, `"health_status": "HEALTHY"`) + `,
			` + lbEndpoint("fe80::1", 80, `"load_balancing_weight": 0`, `"health_status": "UNHEALTHY"`) + `,
			{"endpoint": {"address": {"pipe": {"path": "/run/x.sock"}}, "hostname": "h"}, "health_status": "DRAINING"},
			` + lbEndpoint("host.example", 80, `"health_status": "TIMEOUT"`) + `,
			` + lbEndpoint("10.0.0.2", 80, `"health_status": "DEGRADED"`, `"metadata": {"filter_metadata": {"envoy.lb": {"hash_key": "k"}}}`) + `]},
		{"locality": {"region": "ignored"}, "load_balancing_weight": 0, "priority": 7},
		{"locality": {"region": "r"}, "priority": 1, "lb_endpoints": [
			{"endpoint": {"address": ` + socket("10.0.0.3", 80) + `, "additional_addresses": [{"address": ` + socket("10.0.0.4", 80) + `}]}},
			{"endpoint": {"address": ` + socket("10.0.0.5", 80) + `, "additional_addresses": [{"address": ` + socket("10.0.0.6", 80) + `}]}}]}]}`
	check(t, &endpointv3.ClusterLoadAssignment{}, json, decode.ClusterLoadAssignment, verdict[*snapshot.ClusterLoadAssignment]{
		notes: []string{
			`policy.drop_overloads: is not honoured yet`,
			`endpoints[2].lb_endpoints[0].endpoint.additional_addresses: is not honoured yet`,
		},
		value: &snapshot.ClusterLoadAssignment{
			Name: "c", OverprovisioningFactor: 100,
			Localities: []snapshot.LocalityEndpoints{
				{
					Locality: snapshot.Locality{Region: "r", Zone: "z", SubZone: "s"}, Weight: 3,
					Endpoints: []snapshot.Endpoint{
						{Address: "10.0.0.1:80", Weight: 7, Health: snapshot.Healthy},
						{Address: "[fe80::1]:80", Weight: 1, Health: snapshot.Unhealthy},
						{Address: "unix:/run/x.sock", Hostname: "h", Weight: 1, Health: snapshot.Draining},
						{Address: "host.example:80", Weight: 1, Health: snapshot.Unhealthy},
						{Address: "10.0.0.2:80", HashKey: "k", Weight: 1, Health: snapshot.Degraded},
					},
				},
				{
					Locality: snapshot.Locality{Region: "r"}, Priority: 1, Weight: 2,
					Endpoints: []snapshot.Endpoint{{Address: "10.0.0.3:80", Weight: 1}, {Address: "10.0.0.5:80", Weight: 1}},
				},
			},
		},
	})
}

func TestClusterLoadAssignmentEmpty(t *testing.T) {
	check(t, &endpointv3.ClusterLoadAssignment{}, assignment(), decode.ClusterLoadAssignment, verdict[*snapshot.ClusterLoadAssignment]{
		value: &snapshot.ClusterLoadAssignment{Name: "c", OverprovisioningFactor: 140},
	})
}

func TestClusterLoadAssignmentRefused(t *testing.T) {
	one := func(endpoint string) string { return assignment(`{"lb_endpoints": [` + endpoint + `]}`) }
	at := func(field string) string { return `endpoints[0].lb_endpoints[0].endpoint.address` + field }
	addr := func(address string) string { return one(`{"endpoint": {"address": ` + address + `}}`) }
	for _, tt := range []struct{ name, json, want string }{
		{"gap", assignment(`{}`, `{"priority": 2}`), `endpoints: priority 1 has no locality, but a higher one has`},
		{"no priority 0", assignment(`{"priority": 1}`), `endpoints: priority 0 has no locality, but a higher one has`},
		{"only priority 0 without weight", assignment(`{"load_balancing_weight": 0}`, `{"priority": 1}`), `endpoints: priority 0 has no locality, but a higher one has`},
		{"priority too high", assignment(`{"priority": 129}`), `endpoints[0].priority: is 129, must be at most 128`},
		{"locality twice", assignment(`{"locality": {"zone": "z"}}`, `{"locality": {"zone": "z"}}`), `endpoints[1].locality: {Region: Zone:z SubZone:} appears twice in priority 0`},
		{"locality weights", assignment(`{"load_balancing_weight": 4294967295}`, `{"locality": {"zone": "z"}}`), `endpoints[1].load_balancing_weight: the sum of the weights in priority 0 is greater than 4294967295`},
		{
			"endpoint weights", assignment(`{"lb_endpoints": [` + lbEndpoint("10.0.0.1", 80, `"load_balancing_weight": 4294967295`) + `,` + lbEndpoint("10.0.0.2", 80) + `]}`),
			`endpoints[0].lb_endpoints[1].load_balancing_weight: the sum of the weights in the locality is greater than 4294967295`,
		},
		{"address twice", assignment(`{"lb_endpoints": [`+lbEndpoint("::1", 80)+`]}`, `{"priority": 1, "lb_endpoints": [`+lbEndpoint("0:0::1", 80)+`]}`), `endpoints[1].lb_endpoints[0]: address [::1]:80 appears twice`},
		{"no address", one(`{}`), at(`: must be set`)},
		{"named endpoint", one(`{"endpoint_name": "x"}`), `endpoints[0].lb_endpoints[0].endpoint_name: is not supported`},
		{"port 0", addr(socket("10.0.0.1", 0)), at(`.socket_address.port_value: is 0, must be between 1 and 65535`)},
		{"port", addr(socket("10.0.0.1", 65536)), at(`.socket_address.port_value: is 65536, must be between 1 and 65535`)},
		{"named port", addr(`{"socket_address": {"address": "10.0.0.1", "named_port": "http"}}`), at(`.socket_address.named_port: is not supported`)},
		{"udp", addr(`{"socket_address": {"protocol": "UDP", "address": "10.0.0.1", "port_value": 1}}`), at(`.socket_address.protocol: UDP is not supported`)},
		{"host", addr(socket("a b", 80)), at(`.socket_address.address: "a b" is neither an IP address nor a host name`)},
		{"empty pipe", addr(`{"pipe": {}}`), at(`.pipe.path: must not be empty`)},
		{"internal", addr(`{"envoy_internal_address": {}}`), at(`.envoy_internal_address: is not supported`)},
		{"overprovisioning", `{"cluster_name": "c", "policy": {"overprovisioning_factor": 0}}`, `policy.overprovisioning_factor: must be positive`},
		{"leds", assignment(`{"leds_cluster_locality_config": {}}`), `endpoints[0].leds_cluster_locality_config: is not supported`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			check(t, &endpointv3.ClusterLoadAssignment{}, tt.json, decode.ClusterLoadAssignment, verdict[*snapshot.ClusterLoadAssignment]{
				err: tt.want, value: &snapshot.ClusterLoadAssignment{Name: "c", Refused: text(tt.want)},
			})
		})
	}
}

// Each field of endpoints that is not honoured is noted, and once.
func TestFieldsOfEndpointsAreNotedOnce(t *testing.T) {
	m := &endpointv3.ClusterLoadAssignment{}
	marshal(t, m, `{"cluster_name": "n", "endpoints": [{"lb_endpoints": [
		{"endpoint": {"address": `+socket("10.0.0.1", 80)+`, "additional_addresses": [{"address": `+socket("10.0.0.2", 80)+`}]}},
		`+lbEndpoint("10.0.0.3", 80)+`, `+lbEndpoint("10.0.0.4", 80)+`]}]}`)
	for _, e := range m.Endpoints[0].LbEndpoints[1:] {
		e.GetEndpoint().ProtoReflect().SetUnknown(unknownField)
	}
	want := []string{
		"endpoints[0].lb_endpoints[0].endpoint.additional_addresses: is not honoured yet",
		"endpoints[0].lb_endpoints[1].endpoint.unknown field: is not honoured yet",
	}
	if got := decode.ClusterLoadAssignment("n", encoded(t, m)); !slices.Equal(got.Notes, want) {
		t.Errorf("%q", got.Notes)
	}
}
