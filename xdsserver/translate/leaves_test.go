package translate_test

import (
	"bytes"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/meshframe/meshframe/xdsserver/config"
	"github.com/meshframe/meshframe/xdsserver/support"
)

// quiet are leaves that are supported, and whose value makes no difference to what is sent. Those that end in "." stand
// for all below.
var quiet = map[string]string{
	"VirtualService gateways[]":                                           "mesh, which is the default",
	"VirtualService http[].match[].gateways[]":                            "mesh, which is the default",
	"VirtualService http[].retries.retryIgnorePreviousHosts":              "true, which is the default; of clients that bind calls to endpoints",
	"DestinationRule trafficPolicy.tls.mode":                              "DISABLE, which is the default; other modes are rejected",
	"DestinationRule trafficPolicy.connectionPool.http.h2UpgradePolicy":   "gRPC is HTTP/2 anyway",
	"DestinationRule trafficPolicy.connectionPool.http.useClientProtocol": "gRPC is HTTP/2 anyway",
	"Sidecar egress[].port.protocol":                                      "that of the service counts",
	"Sidecar egress[].port.name":                                          "that of the service counts",
	"ServiceEntry location":                                               "of telemetry and identity",
	"Service type":                                                        "what the other fields say is of that type, which is checked",
	"EndpointSlice addressType":                                           "the addresses are of that type, which is checked",
	"EndpointSlice endpoints[].hostname":                                  "names of single endpoints are left to DNS",
	"EndpointSlice endpoints[].targetRef.":                                "of telemetry",
	"EndpointSlice ports[].protocol":                                      "of proxies and routers",
	"EndpointSlice ports[].appProtocol":                                   "that of the service counts",
	"EndpointSlice endpoints[].deprecatedTopology[]":                      "of proxies and routers",
}

// TestLeaves takes each value out of the configuration of each case, by itself, and looks at what is sent, down to the
// fields in the messages that package support has one row for: what is part of something supported must show. A value
// that must not be absent is changed instead.
func TestLeaves(t *testing.T) {
	shapes := map[string]*shape{}
	for _, k := range config.Kinds() {
		shapes[k.Name] = shapeOf(k)
	}
	known := seen{}
	for file, data := range cases(t) {
		pluck(t, file, data, shapes, known)
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		_, leaf, _ := strings.Cut(name, " for ")
		if e := known[name]; e.supported > 0 && e.shown == 0 && !isQuiet(leaf) {
			t.Errorf("%s: it is part of something supported, and makes no difference", name)
		}
	}
	for kind, s := range shapes {
		for leaf := range s.leaves("") {
			name := kind + " " + aliased(leaf)
			if known["Meshframe for "+name] == nil && speaksFor(kind, aliased(leaf)) && !isQuiet(name) {
				t.Errorf("no case has %s", name)
			}
		}
	}
}

func isQuiet(leaf string) bool {
	for q := range quiet {
		if leaf == q || strings.HasSuffix(q, ".") && strings.HasPrefix(leaf, q) {
			return true
		}
	}
	return false
}

// speaksFor reports whether a leaf is part of something that is supported and sent to clients.
func speaksFor(kind, leaf string) bool {
	for _, r := range support.Rows() {
		if r.Kind == kind && (leaf == r.Field || strings.HasPrefix(leaf, r.Field+".") || strings.HasPrefix(leaf, r.Field+"[")) {
			v := r.Verdict(support.Client{})
			return v.Outcome == support.Supported && v.Reason != "it is for proxies and routers of Kubernetes"
		}
	}
	return false
}

// pluck takes each value out of the objects of one case.
func pluck(t *testing.T, file string, data []byte, shapes map[string]*shape, known seen) {
	t.Helper()
	d := parseDirectives(t, data)
	docs, all := documentFiles(t, data)
	before := sent(t, d, all)
	for i, o := range config.Parse(file, data).Objects {
		entries := make([][]support.Entry, len(d.clients))
		for c, client := range d.clients {
			entries[c] = slices.Collect(support.Fields(o, client.Kind()))
		}
		at, path := any(docs[i]), ""
		if o.Kind != "EndpointSlice" {
			at, path = docs[i]["spec"], "spec"
		}
		for place := range shapes[o.Kind].places(at, path, "") {
			whole := all[i]
			all[i] = parsed(t, i, copied(t, docs[i], place.path))
			after := sent(t, d, all)
			if after[0] == nil {
				all[i] = parsed(t, i, otherwise(t, docs[i], place.path))
				after = sent(t, d, all)
			}
			all[i] = whole
			for c := range d.clients {
				if e := entryFor(entries[c], place.path); e != nil {
					known.leaf(o.Kind+" "+aliased(place.leaf), *e, before[c], after[c])
				}
			}
		}
	}
}

// entryFor is the entry that speaks for a place: of the field, or of one that it is in.
func entryFor(entries []support.Entry, path string) *support.Entry {
	dotted := strings.NewReplacer("[", ".", "]", "")
	path = dotted.Replace(path) + "."
	i := slices.IndexFunc(entries, func(e support.Entry) bool { return strings.HasPrefix(path, dotted.Replace(e.Field)+".") })
	if i < 0 {
		return nil
	}
	return &entries[i]
}

func (s seen) leaf(leaf string, e support.Entry, before, after []byte) {
	group := "gRPC"
	if !e.Client.GRPC() {
		group = "Meshframe"
	}
	name := group + " for " + leaf
	if s[name] == nil {
		s[name] = &effects{}
	}
	if e.Outcome != support.Supported {
		return
	}
	s[name].supported++
	if after == nil || !bytes.Equal(before, after) {
		s[name].shown++
	}
}

// aliased is a leaf as the rows of package support have it: settings of ports and subsets are those of the whole rule.
func aliased(leaf string) string {
	leaf = strings.TrimPrefix(leaf, "subsets[].")
	if leaf == "name" || strings.HasPrefix(leaf, "labels") {
		return "subsets[]." + leaf
	}
	if rest, ok := strings.CutPrefix(leaf, "trafficPolicy.portLevelSettings[]."); ok && !strings.HasPrefix(rest, "port.") {
		return "trafficPolicy." + rest
	}
	return leaf
}

// shape is what values a field may hold. One without fields is a leaf.
type shape struct {
	fields      map[string]*shape
	list, keyed bool
}

func shapeOf(k config.Kind) *shape {
	spec := k.New()
	if m, ok := spec.(proto.Message); ok {
		return messageShape(m.ProtoReflect().Descriptor(), 0)
	}
	t := reflect.TypeOf(spec).Elem()
	if k.Name == "Service" {
		f, _ := t.FieldByName("Spec")
		t = f.Type
	}
	return structShape(t)
}

func messageShape(m protoreflect.MessageDescriptor, depth int) *shape {
	s := &shape{}
	if strings.HasPrefix(string(m.FullName()), "google.protobuf.") || depth > 12 {
		return s
	}
	s.fields = map[string]*shape{}
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		of := &shape{}
		switch {
		case f.IsMap() && f.MapValue().Message() != nil:
			of = messageShape(f.MapValue().Message(), depth+1)
		case !f.IsMap() && f.Message() != nil:
			of = messageShape(f.Message(), depth+1)
		}
		of.list, of.keyed = f.IsList(), f.IsMap()
		s.fields[f.JSONName()] = of
	}
	return s
}

func structShape(t reflect.Type) *shape {
	s := &shape{}
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		s.list = s.list || t.Kind() == reflect.Slice
		t = t.Elem()
	}
	s.keyed = t.Kind() == reflect.Map
	if t.Kind() != reflect.Struct || t.Name() == "IntOrString" {
		return s
	}
	s.fields = map[string]*shape{}
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && (name == "" || strings.Contains(options, "inline")):
			maps.Copy(s.fields, structShape(f.Type).fields)
		case name != "" && name != "-" && !slices.Contains([]string{"metadata", "status", "kind", "apiVersion"}, name):
			s.fields[name] = structShape(f.Type)
		}
	}
	return s
}

// leaves lists all that a value of the shape can hold.
func (s *shape) leaves(path string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if s.list || s.keyed {
			path += "[]"
		}
		if len(s.fields) == 0 {
			yield(path)
			return
		}
		for name, f := range s.fields {
			for leaf := range f.leaves(strings.TrimPrefix(path+"."+name, ".")) {
				if !yield(leaf) {
					return
				}
			}
		}
	}
}

// place is where a case has a leaf.
type place struct{ path, leaf string }

func (s *shape) places(at any, path, leaf string) iter.Seq[place] {
	return func(yield func(place) bool) {
		in := func(of *shape, at any, path, leaf string) bool {
			for p := range of.places(at, path, leaf) {
				if !yield(p) {
					return false
				}
			}
			return true
		}
		one := &shape{fields: s.fields}
		switch at := at.(type) {
		case []any:
			for i, v := range at {
				if !in(one, v, fmt.Sprintf("%s[%d]", path, i), leaf+"[]") {
					return
				}
			}
		case map[string]any:
			for k, v := range at {
				switch f := s.fields[k]; {
				case s.keyed:
					if !in(one, v, path+"["+k+"]", leaf+"[]") {
						return
					}
				case f != nil && !in(f, v, strings.TrimPrefix(path+"."+k, "."), strings.TrimPrefix(leaf+"."+k, ".")):
					return
				}
			}
			if len(at) == 0 {
				yield(place{path, leaf})
			}
		default:
			yield(place{path, leaf})
		}
	}
}

// otherwise returns a document in which a value is another.
func otherwise(t *testing.T, doc map[string]any, field string) map[string]any {
	t.Helper()
	return altered(copied(t, doc, ""), segments(field)).(map[string]any)
}

func altered(v any, path []string) any {
	switch at := v.(type) {
	case map[string]any:
		at[path[0]] = altered(at[path[0]], path[1:])
	case []any:
		if i, err := strconv.Atoi(path[0]); err == nil {
			at[i] = altered(at[i], path[1:])
		}
	case bool:
		return !at
	case int:
		return at + 1
	case float64:
		return at + 1
	case string:
		if d, err := time.ParseDuration(at); err == nil {
			return (d + time.Second).String()
		}
		return at + "x"
	}
	return v
}
