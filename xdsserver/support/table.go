package support

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"
	security "istio.io/api/security/v1beta1"
)

// row is what becomes of a field, or of a message with all that is in it.
type row struct {
	// field is the path below the object's spec, "http[].mirror"; "" is the object as a whole.
	field   string
	library Verdict
	grpc    Verdict // of gRPC's own clients
	// judge, where it is set, has the last word about a value: it is given the verdict of the table. Values are scalars,
	// names of enum values, keys of maps, durations, and other messages as they are.
	judge func(c Client, table Verdict, value any) Verdict
	// as is another field, whose rows hold below this one too.
	as string
	// needs is what a client of gRPC's own has to know; what becomes of the field for one that does not is without.
	needs   Feature
	without Verdict
	spares  any // a value that asks for nothing of the sort
	// unset, where it is set, is the value that the field has when it is not written in the message that it is part of, and
	// that is judged as others are.
	unset any
}

func works(reason ...string) Verdict { return Verdict{Supported, strings.Join(reason, "")} }
func degraded(reason string) Verdict { return Verdict{Degraded, reason} }
func rejected(reason string) Verdict { return Verdict{Rejected, reason} }

// notServed is the verdict about what is accepted, and of which nothing is made yet.
func notServed(reason string) Verdict { return degraded("not served yet: " + reason) }

// both makes a row with one verdict for all clients.
func both(field string, v Verdict) row { return row{field: field, library: v, grpc: v} }

// since makes a row hold for clients of gRPC's own that know a feature; for others it is without.
func since(f Feature, without Verdict, r row) row {
	r.needs, r.without = f, without
	return r
}

// verdict returns what the table says for a client; judged is whether a judge may have more to say.
func (r *row) verdict(c Client) (v Verdict, judged bool) {
	switch reason := c.Refusal(); {
	case reason != "":
		return rejected("its streams are refused: " + reason), false
	case !c.GRPC():
		return r.library, true
	case r.needs != 0 && !c.Knows(r.needs):
		return r.without, false
	default:
		return r.grpc, true
	}
}

// about returns the verdict about a value.
func (r *row) about(c Client, value any) Verdict {
	v, judged := r.verdict(c)
	if d, ok := value.(*durationpb.Duration); ok {
		value = d.AsDuration()
	}
	if !judged && c.Served() && r.spares != nil && value == r.spares {
		return r.grpc
	}
	if r.judge == nil || !judged {
		return v
	}
	return r.judge(c, v, value)
}

// table has the rows of one kind of object.
type table struct {
	kind string
	// below is the path of the message that the rows are about, "spec" for most.
	below string
	rows  []row

	byField map[string]*row
	aliases []*row
	unset   []string // names of fields that mean something when they are not written
}

// tables are those of every kind that config reads. They are part of the program.
var tables = index(
	table{kind: "VirtualService", below: "spec", rows: virtualServiceRows},
	table{kind: "DestinationRule", below: "spec", rows: destinationRuleRows},
	table{kind: "ServiceEntry", below: "spec", rows: serviceEntryRows},
	table{kind: "WorkloadEntry", below: "spec", rows: workloadEntryRows},
	table{kind: "Sidecar", below: "spec", rows: sidecarRows},
	table{kind: "MeshPolicy", below: "spec", rows: meshPolicyRows},
	table{kind: "Service", below: "spec", rows: serviceRows},
	table{kind: "EndpointSlice", rows: endpointSliceRows},
	table{kind: "Gateway", below: "spec", rows: whole("no gateway is configured by it")},
	table{kind: "EnvoyFilter", below: "spec", rows: whole("its patches are not applied")},
	table{kind: "WorkloadGroup", below: "spec", rows: whole("no workload is registered or probed by it")},
	table{kind: "ProxyConfig", below: "spec", rows: whole("it configures proxies, and there are none")},
	table{kind: "AuthorizationPolicy", below: "spec", rows: unenforced("no request is denied by it")},
	table{kind: "PeerAuthentication", below: "spec", rows: peerAuthenticationRows},
	table{kind: "RequestAuthentication", below: "spec", rows: unenforced("no token is checked by it")},
	table{kind: "Telemetry", below: "spec", rows: whole("telemetry does not follow it")},
	table{kind: "WasmPlugin", below: "spec", rows: whole("its plugin is not run")},
	table{kind: "TrafficExtension", below: "spec", rows: whole("its extension is not run")},
)

func whole(reason string) []row { return []row{both("", notServed(reason))} }

// unenforced is the row of a kind of security policies.
func unenforced(then string) []row {
	return []row{both("", rejected("xdsserver does not start with it unless unenforced policies are allowed, and then "+then))}
}

// peerAuthenticationRows: what does not ask for TLS is no reason not to start.
var peerAuthenticationRows = []row{{
	field:   "",
	library: rejected(noTLSServer), grpc: rejected(noTLSServer),
	judge: func(_ Client, table Verdict, value any) Verdict {
		if p, ok := value.(*security.PeerAuthentication); ok && !asksForTLS(p) {
			return notServed("connections are plaintext")
		}
		return table
	},
}}

const noTLSServer = "xdsserver does not start with STRICT unless unenforced policies are allowed, and then, as with other modes, connections are plaintext"

// asksForTLS reports whether the policy refuses plaintext somewhere.
func asksForTLS(p *security.PeerAuthentication) bool {
	const strict = security.PeerAuthentication_MutualTLS_STRICT
	for _, m := range p.PortLevelMtls {
		if m.GetMode() == strict {
			return true
		}
	}
	return p.GetMtls().GetMode() == strict
}

func index(all ...table) []*table {
	out := make([]*table, len(all))
	for i := range all {
		t := &all[i]
		t.byField = map[string]*row{}
		for j := range t.rows {
			r := &t.rows[j]
			t.byField[r.field] = r
			if r.as != "" {
				t.aliases = append(t.aliases, r)
			}
			if r.unset != nil {
				t.unset = append(t.unset, r.field[strings.LastIndexByte(r.field, '.')+1:])
			}
		}
		out[i] = t
	}
	return out
}

func tableOf(kind string) *table {
	if i := slices.IndexFunc(tables, func(t *table) bool { return t.kind == kind }); i >= 0 {
		return tables[i]
	}
	return nil
}

// find returns the row of a field, nil when the rows of the fields in it say more.
func (t *table) find(field string) *row {
	if r := t.byField[field]; r != nil {
		if r.as != "" {
			return nil
		}
		return r
	}
	for _, a := range t.aliases {
		if rest, ok := strings.CutPrefix(field, a.field); ok && strings.HasPrefix(rest, ".") {
			return t.find(a.as + rest)
		}
	}
	return nil
}

// Row is what becomes of a field of a kind of object, whatever its value is.
type Row struct {
	Kind  string
	Field string // such as http[].mirror, below the spec; "" is the object as a whole

	row *row
}

// Verdict returns what becomes of the field for a client, where its values do not decide.
func (r Row) Verdict(c Client) Verdict {
	v, _ := r.row.verdict(c)
	return v
}

// Rows returns the rows of all tables. The row of a message speaks for all fields in it.
func Rows() []Row {
	var out []Row
	for _, t := range tables {
		for i := range t.rows {
			out = append(out, Row{Kind: t.kind, Field: t.rows[i].field, row: &t.rows[i]})
		}
	}
	return out
}
