package decode_test

import (
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/meshframe/meshframe/mesh/route"
	"github.com/meshframe/meshframe/mesh/snapshot"
	"github.com/meshframe/meshframe/resolver/decode"
)

// added is a request header to add, with further fields.
func added(key, value string, fields ...string) string {
	return `"request_headers_to_add": [{` + join(append([]string{`"header": {"key": "` + key + `", "value": "` + value + `"}`}, fields...)...) + `}]`
}

func edits(e ...snapshot.HeaderEdit) *snapshot.HeaderEdits { return &snapshot.HeaderEdits{Edits: e} }

func TestHeaderEdits(t *testing.T) {
	const where = `virtual_hosts[0].routes[0].request_headers_to_add[0] "x-a": `
	for _, tt := range []struct {
		fields            string
		request, response *snapshot.HeaderEdits
		notes             []string
	}{
		{fields: added("X-A", "v"), request: edits(snapshot.HeaderEdit{Name: "x-a", Value: "v"})},
		{fields: added("x-a", "v", `"append": true`), request: edits(snapshot.HeaderEdit{Name: "x-a", Value: "v"})},
		{fields: added("x-a", "v", `"append": false`), request: edits(snapshot.HeaderEdit{Name: "x-a", Value: "v", Action: snapshot.OverwriteOrAdd})},
		{
			fields:  added("x-a", "v", `"append_action": "ADD_IF_ABSENT"`),
			request: edits(snapshot.HeaderEdit{Name: "x-a", Value: "v", Action: snapshot.AddIfAbsent}),
		},
		{
			fields:  added("x-a", "v", `"append_action": "OVERWRITE_IF_EXISTS_OR_ADD"`),
			request: edits(snapshot.HeaderEdit{Name: "x-a", Value: "v", Action: snapshot.OverwriteOrAdd}),
		},
		{
			fields:  added("x-a", "v", `"append_action": "OVERWRITE_IF_EXISTS"`),
			request: edits(snapshot.HeaderEdit{Name: "x-a", Value: "v", Action: snapshot.OverwriteIfExists}),
		},
		{fields: added("x-a", "100%%, %%%%x"), request: edits(snapshot.HeaderEdit{Name: "x-a", Value: "100%, %%x"})},
		{fields: added("x-a", "", `"keep_empty_value": true`), request: edits(snapshot.HeaderEdit{Name: "x-a"})},
		{fields: added("x-a", ""), notes: []string{where + `has an empty value and not keep_empty_value, so it has no effect`}},
		{
			fields:  `"request_headers_to_add": [{"header": {"key": "x-bin", "raw_value": "/w=="}}]`,
			request: edits(snapshot.HeaderEdit{Name: "x-bin", Value: "\xff"}),
		},
		{
			fields: `"request_headers_to_remove": ["X-B", "x-c"], "response_headers_to_remove": ["x-d"],
				"response_headers_to_add": [{"header": {"key": "x-e", "value": "1"}}, {"header": {"key": "x-e", "value": "2"}}]`,
			request: &snapshot.HeaderEdits{Remove: []string{"x-b", "x-c"}},
			response: &snapshot.HeaderEdits{
				Remove: []string{"x-d"}, Edits: []snapshot.HeaderEdit{{Name: "x-e", Value: "1"}, {Name: "x-e", Value: "2"}},
			},
		},
	} {
		t.Run(tt.fields, func(t *testing.T) {
			want := oneRouteValue(&snapshot.Route{
				Match: route.Match{Value: "/"}, Clusters: to("c"), RequestHeaders: tt.request, ResponseHeaders: tt.response,
			})
			check(t, &routev3.RouteConfiguration{}, oneRoute(`{"match": {"prefix": "/"}, "route": {"cluster": "c"}, `+tt.fields+`}`),
				decode.RouteConfiguration, verdict[*snapshot.RouteConfiguration]{value: want, notes: tt.notes})
		})
	}
}

// Edits stand at each level; which order they have is for the engine.
func TestHeaderEditsOfAllLevels(t *testing.T) {
	edit := func(value string) *snapshot.HeaderEdits { return edits(snapshot.HeaderEdit{Name: "l", Value: value}) }
	json := `{"name": "rc", "most_specific_header_mutations_wins": true, ` + added("l", "rc") + `, "virtual_hosts": [
		{"name": "vh", "domains": ["*"], ` + added("l", "vh") + `, "routes": [{"match": {"prefix": "/"}, ` + added("l", "r") + `,
			"route": {"weighted_clusters": {"clusters": [{"name": "c", "weight": 1, "host_rewrite_literal": "h", ` + added("l", "w") + `}]}}}]}]}`
	check(t, &routev3.RouteConfiguration{}, json, decode.RouteConfiguration, verdict[*snapshot.RouteConfiguration]{
		value: &snapshot.RouteConfiguration{
			Name: "rc", SpecificLast: true, RequestHeaders: edit("rc"),
			VirtualHosts: []*snapshot.VirtualHost{{
				Name: "vh", Domains: []string{"*"}, RequestHeaders: edit("vh"),
				Routes: []*snapshot.Route{{
					Match: route.Match{Value: "/"}, RequestHeaders: edit("r"),
					Clusters: []snapshot.ClusterWeight{{Cluster: "c", Weight: 1, HostRewrite: "h", RequestHeaders: edit("w")}},
				}},
			}},
		},
	})
}

func TestHeaderEditsRefused(t *testing.T) {
	const where = `virtual_hosts[0].routes[0] "r": `
	for fields, reason := range map[string]string{
		added("", "v"):             `request_headers_to_add[0].header.key: "" is not the name of a header`,
		added("a b", "v"):          `request_headers_to_add[0] "a b": header.key: "a b" is not the name of a header`,
		added("Host", "v"):         `request_headers_to_add[0] "Host": header.key: "host" must not be changed`,
		added(":authority", "v"):   `request_headers_to_add[0] ":authority": header.key: ":authority" must not be changed`,
		added("a", "v\\r\\nb: c"):  `request_headers_to_add[0] "a": header.value: "v\r\nb: c" is not the value of a header`,
		added("a", "x %REQ(b)% y"): `request_headers_to_add[0] "a": header.value: %REQ(b)% is not supported: only plain text is, and %% for a percent sign`,
		added("a", "50%"):          `request_headers_to_add[0] "a": header.value: a percent sign must be written %%`,
		added("a", "v", `"append": true, "append_action": "ADD_IF_ABSENT"`):                       `request_headers_to_add[0] "a": only one of append and append_action may be set`,
		added("a", "v", `"append_action": 9`):                                                     `request_headers_to_add[0] "a": append_action: 9 is not known`,
		`"request_headers_to_add": [{"header": {"key": "a", "value": "v", "raw_value": "/w=="}}]`: `request_headers_to_add[0] "a": header: only one of value and raw_value may be set`,
		`"request_headers_to_remove": ["host"]`:                                                   `request_headers_to_remove[0]: "host" must not be changed`,
		`"response_headers_to_remove": ["x", ":status"]`:                                          `response_headers_to_remove[1]: ":status" must not be changed`,
	} {
		t.Run(fields, func(t *testing.T) {
			check(t, &routev3.RouteConfiguration{}, oneRoute(`{"name": "r", "match": {"prefix": "/"}, "route": {"cluster": "c"}, `+fields+`}`),
				decode.RouteConfiguration, verdict[*snapshot.RouteConfiguration]{
					err:   where + reason,
					value: oneRouteValue(&snapshot.Route{Name: "r", Match: route.Match{Value: "/"}, Refused: text(where + reason)}),
				})
		})
	}
}
