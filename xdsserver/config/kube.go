package config

import (
	"encoding/json"
	"maps"
	"math"
	"reflect"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// kubernetesObject reads a whole object into one of Kubernetes' Go types.
func (r *reader) kubernetesObject(k kind) any {
	object := k.object()
	out := map[string]any{}
	v := reflect.TypeOf(object).Elem()
	names := jsonFields(v)
	for _, e := range r.entries(r.meta.Source.node, "") {
		switch f, ok := names[e.key]; {
		case e.key == "metadata" || e.key == "status" || isNull(e.value) && ok:
			// metadata is read by itself, and status is what a cluster made of the object.
		case !ok:
			r.unknown(e, "", r.meta.Kind, keysOf(names))
		default:
			out[e.key] = r.goValue(e.value, f, e.key, 0)
		}
	}
	if bad := convert(out, object); bad != nil && !r.failed() {
		r.errorf("", "cannot be read: %v", bad)
	}
	meta := object.(metav1.Object)
	meta.SetName(r.meta.Name)
	meta.SetNamespace(r.meta.Namespace)
	meta.SetLabels(r.meta.Labels)
	meta.SetAnnotations(r.meta.Annotations)
	meta.SetCreationTimestamp(metav1.NewTime(r.meta.Created))
	return object
}

// goObject reads a node into a Go struct.
func (r *reader) goObject(n *yaml.Node, into any, path string) {
	out, _ := r.goValue(n, reflect.TypeOf(into).Elem(), path, 0).(map[string]any)
	if bad := convert(out, into); bad != nil && !r.failed() {
		r.errorf(path, "cannot be read: %v", bad)
	}
}

// convert fills a Go value from what goValue made.
func convert(from map[string]any, into any) error {
	b, err := json.Marshal(from)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// goValue checks a node against a Go type and returns what encoding/json needs to fill one.
func (r *reader) goValue(n *yaml.Node, t reflect.Type, path string, depth int) any {
	n = deref(n)
	if !r.visit(n, path, depth) {
		return nil
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if reflect.PointerTo(t).Implements(unmarshaler) {
		return r.selfMade(n, t, path, depth)
	}
	switch t.Kind() {
	case reflect.Struct:
		return r.goStruct(n, t, path, depth)
	case reflect.Map:
		return r.goMap(n, t, path, depth)
	case reflect.Slice:
		return r.goSlice(n, t, path, depth)
	}
	v, bad := goScalar(n, t)
	if bad != "" {
		r.at(Error, n.Line, path, "%s", bad)
	}
	return v
}

func goScalar(n *yaml.Node, t reflect.Type) (any, string) {
	if t == reflect.TypeFor[time.Duration]() {
		return wrap(readDuration(n))
	}
	switch t.Kind() {
	case reflect.String:
		return wrap(readString(n))
	case reflect.Bool:
		return wrap(readBool(n))
	case reflect.Int32:
		return wrap(readInt(n, math.MinInt32, math.MaxInt32, false))
	case reflect.Uint32:
		return wrap(readInt(n, 0, math.MaxUint32, false))
	case reflect.Int, reflect.Int64:
		return wrap(readInt(n, math.MinInt64, math.MaxInt64, false))
	default:
		return wrap(readFloat(n))
	}
}

func wrap[T any](v T, bad string) (any, string) { return v, bad }

// selfMade reads types that decode themselves, such as a time or a port that is a number or a name, and lets them judge.
func (r *reader) selfMade(n *yaml.Node, t reflect.Type, path string, depth int) any {
	v := r.plain(n, path, depth)
	b, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(b, reflect.New(t).Interface())
	}
	if err != nil {
		r.at(Error, n.Line, path, "want a value of type %s, have %s", t.Name(), describe(n))
	}
	return v
}

func (r *reader) goStruct(n *yaml.Node, t reflect.Type, path string, depth int) any {
	if n.Kind != yaml.MappingNode {
		r.at(Error, n.Line, path, "want a mapping, have %s", describe(n))
		return nil
	}
	out := map[string]any{}
	names := jsonFields(t)
	for _, e := range r.entries(n, path) {
		f, ok := names[e.key]
		switch {
		case !ok:
			r.unknown(e, path, t.Name(), keysOf(names))
		case !isNull(e.value):
			out[e.key] = r.goValue(e.value, f, field(path, e.key), depth+1)
		}
	}
	return out
}

func (r *reader) goMap(n *yaml.Node, t reflect.Type, path string, depth int) any {
	if n.Kind != yaml.MappingNode {
		r.at(Error, n.Line, path, "want a mapping, have %s", describe(n))
		return nil
	}
	out := map[string]any{}
	for _, e := range r.entries(n, path) {
		out[e.key] = r.goValue(e.value, t.Elem(), element(path, e.key), depth+1)
	}
	return out
}

func (r *reader) goSlice(n *yaml.Node, t reflect.Type, path string, depth int) any {
	if n.Kind != yaml.SequenceNode {
		r.at(Error, n.Line, path, "want a list, have %s", describe(n))
		return nil
	}
	out := make([]any, 0, len(n.Content))
	for i, c := range n.Content {
		at := element(path, i)
		if c = deref(c); isNull(c) {
			r.at(Error, c.Line, at, "an empty element")
			continue
		}
		out = append(out, r.goValue(c, t.Elem(), at, depth+1))
	}
	return out
}

// jsonFields lists the fields of a struct under their JSON names, those of embedded structs with them.
func jsonFields(t reflect.Type) map[string]reflect.Type {
	out := map[string]reflect.Type{}
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
		case name == "" && (f.Anonymous || strings.Contains(options, "inline")):
			maps.Copy(out, jsonFields(f.Type))
		case name != "":
			out[name] = f.Type
		}
	}
	return out
}

func keysOf(m map[string]reflect.Type) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	return out
}
