package translate

import (
	"math"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/meshframe/meshframe/xdsserver/config"
	"github.com/meshframe/meshframe/xdsserver/registry"
)

// extensionNamespace is where this project's clients look for what no standard field says: filter_metadata["meshframe"].
const extensionNamespace = "meshframe"

// object is the fields of a structure in metadata.
type object map[string]*structpb.Value

func text(s string) *structpb.Value        { return structpb.NewStringValue(s) }
func number(n float64) *structpb.Value     { return structpb.NewNumberValue(n) }
func count(n uint32) *structpb.Value       { return number(float64(n)) }
func span(d time.Duration) *structpb.Value { return text(d.String()) }
func structure(fields object) *structpb.Value {
	return structpb.NewStructValue(&structpb.Struct{Fields: fields})
}
func list(all []*structpb.Value) *structpb.Value {
	return structpb.NewListValue(&structpb.ListValue{Values: all})
}

func metadata(namespace string, fields object) *corev3.Metadata {
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{namespace: {Fields: fields}}}
}

// extend adds what only this project's clients read to metadata, if there is anything.
func extend(m **corev3.Metadata, fields object) {
	switch {
	case len(fields) == 0:
	case *m == nil:
		*m = metadata(extensionNamespace, fields)
	default:
		(*m).FilterMetadata[extensionNamespace] = &structpb.Struct{Fields: fields}
	}
}

// clusterExtension is what a cluster has beside standard fields.
func (t *translation) clusterExtension(s *registry.Service, n ClusterName, p trafficPolicy) object {
	out := object{}
	if b := p.own.Breaker.Value; b != nil {
		out["half_open"] = structure(object{
			"minVolume": count(b.MinVolume), "errorPercent": number(b.ErrorPercent), "window": span(b.Window),
			"openFor": span(b.OpenFor), "probes": count(b.Probes),
		})
	}
	if f := t.fallback(s, n, p.own.Fallback.Value); f != nil {
		out["fallback"] = structure(f)
	}
	if a := p.own.SessionAffinity.Value; a != nil {
		out["session"] = structure(session(a))
	}
	if lb := p.own.LoadBalancer.Value; lb != nil {
		if lb.Policy == config.PeakEWMA {
			out["peak_ewma"] = structure(object{"decay": span(lb.Decay)})
		}
		if lb.SubsetSize > 0 {
			out["subset_size"] = count(lb.SubsetSize)
		}
	}
	if w := p.slowStart(); w != nil && (!w.standard || !t.slowStartField(p)) {
		out["slow_start"] = structure(w.fields())
	}
	return out
}

func session(a *config.SessionAffinity) object {
	out := object{}
	if a.Strict {
		out["strict"] = structpb.NewBoolValue(true)
	}
	if a.Cookie == nil {
		out["header"] = text(a.Header)
		return out
	}
	cookie := object{"name": text(a.Cookie.Name), "path": text(a.Cookie.Path)}
	if a.Cookie.TTL > 0 {
		cookie["ttl"] = span(a.Cookie.TTL)
	}
	out["cookie"] = structure(cookie)
	return out
}

// fallback is what becomes of calls to a cluster that find no endpoint; nil is an error.
func (t *translation) fallback(s *registry.Service, n ClusterName, f *config.Fallback) object {
	switch {
	case f == nil:
		return nil
	case f.Reply != nil:
		reply := object{"status": count(f.Reply.Status)}
		if f.Reply.Body != "" {
			reply["body"] = text(f.Reply.Body)
		}
		return object{"reply": structure(reply)}
	case f.GRPC != nil:
		grpc := object{"code": number(float64(grpcStatus(f.GRPC.Code)))}
		if f.GRPC.Message != "" {
			grpc["message"] = text(f.GRPC.Message)
		}
		return object{"grpc": structure(grpc)}
	case f.Destination != nil:
		name, _ := t.fallbackTarget(s, n, f.Destination)
		if name == n {
			return nil // where the call was already
		}
		return object{"cluster": text(name.String())}
	default:
		return object{"function": text(f.Function)}
	}
}

// fallbackTarget returns the cluster that calls to another fall back to, and its service; nil when there is none.
func (t *translation) fallbackTarget(s *registry.Service, n ClusterName, d *config.FallbackDestination) (ClusterName, *registry.Service) {
	to := &networking.Destination{Host: d.Host, Subset: d.Subset}
	if d.Host[0] == '*' { // the policy's own host
		to.Host = s.Host
	}
	if d.Port != 0 {
		to.Port = &networking.PortSelector{Number: d.Port}
	}
	return t.target(to, n.Port)
}

// grpcStatus reads the name or number of a status; what cannot be read is UNKNOWN.
func grpcStatus(s string) codes.Code {
	var c codes.Code
	if c.UnmarshalJSON([]byte(s)) == nil || c.UnmarshalJSON([]byte(`"`+strings.ToUpper(s)+`"`)) == nil {
		return c
	}
	return codes.Unknown
}

// thousandths is how xDS has factors that are not whole.
func thousandths(f float64) uint32 { return uint32(math.Round(f * 1000)) }
