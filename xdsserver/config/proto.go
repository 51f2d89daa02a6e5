package config

import (
	"encoding/base64"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/structpb"
)

// message fills a protobuf message from a node, field by field, so that whatever does not fit is reported with its own
// line. What fits is what the API server would take: JSON names, enums by name, durations as Go writes them.
func (r *reader) message(n *yaml.Node, m protoreflect.Message, path string, depth int) {
	n = deref(n)
	if !r.visit(n, path, depth) || r.wellKnown(n, m, path, depth) {
		return
	}
	if n.Kind != yaml.MappingNode {
		r.at(Error, n.Line, path, "want a mapping, have %s", describe(n))
		return
	}
	fields := m.Descriptor().Fields()
	present := map[protoreflect.Name]bool{}
	for _, e := range r.entries(n, path) {
		f := fields.ByJSONName(e.key)
		if f == nil {
			r.unknownField(e, m.Descriptor(), path)
			continue
		}
		if isNull(e.value) {
			continue
		}
		present[f.Name()] = true
		r.checkOneof(e, m, f, path)
		r.deprecatedField(e, f, path)
		r.field(e.value, m, f, field(path, e.key), depth+1)
	}
	r.required(n, m, present, path)
}

// checkOneof reports a second member of a choice.
func (r *reader) checkOneof(e entry, m protoreflect.Message, f protoreflect.FieldDescriptor, path string) {
	one := f.ContainingOneof()
	if one == nil || one.IsSynthetic() {
		return
	}
	if set := m.WhichOneof(one); set != nil {
		r.at(Error, e.at.Line, field(path, e.key), "only one of %s may be set, and %s is", oneofNames(one), set.JSONName())
	}
}

func oneofNames(one protoreflect.OneofDescriptor) string {
	names := make([]string, one.Fields().Len())
	for i := range names {
		names[i] = one.Fields().Get(i).JSONName()
	}
	return strings.Join(names, ", ")
}

// required reports fields that Istio's API marks as required and that are absent or empty.
func (r *reader) required(n *yaml.Node, m protoreflect.Message, present map[protoreflect.Name]bool, path string) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case m.Has(f) || !isRequired(f):
		case !present[f.Name()]:
			r.at(Error, n.Line, field(path, f.JSONName()), "missing, but required")
		case f.Kind() == protoreflect.StringKind && !r.failedAt(field(path, f.JSONName())):
			r.at(Error, r.meta.LineOf(field(path, f.JSONName())), field(path, f.JSONName()), "empty, but required")
		}
	}
}

func (r *reader) failedAt(path string) bool {
	for _, p := range r.problems {
		if strings.HasPrefix(p.Field, path) {
			return true
		}
	}
	return false
}

func isRequired(f protoreflect.FieldDescriptor) bool {
	o, ok := f.Options().(*descriptorpb.FieldOptions)
	if !ok || o == nil {
		return false
	}
	return slices.Contains(proto.GetExtension(o, annotations.E_FieldBehavior).([]annotations.FieldBehavior), annotations.FieldBehavior_REQUIRED)
}

func (r *reader) field(n *yaml.Node, m protoreflect.Message, f protoreflect.FieldDescriptor, path string, depth int) {
	switch {
	case f.IsMap():
		r.mapField(n, m, f, path, depth)
	case f.IsList():
		r.listField(n, m, f, path, depth)
	case f.Message() != nil:
		r.message(n, m.Mutable(f).Message(), path, depth)
	default:
		if v, ok := r.scalar(n, f, path, depth); ok {
			m.Set(f, v)
		}
	}
}

func (r *reader) listField(n *yaml.Node, m protoreflect.Message, f protoreflect.FieldDescriptor, path string, depth int) {
	if n.Kind != yaml.SequenceNode {
		r.at(Error, n.Line, path, "want a list, have %s", describe(n))
		return
	}
	list := m.Mutable(f).List()
	for i, c := range n.Content {
		c = deref(c)
		at := element(path, i)
		switch {
		case isNull(c):
			r.at(Error, c.Line, at, "an empty element")
			list.Append(list.NewElement()) // so that the ones after it are found under their numbers
		case f.Message() != nil:
			v := list.NewElement()
			r.message(c, v.Message(), at, depth+1)
			list.Append(v)
		default:
			v, ok := r.scalar(c, f, at, depth+1)
			if !ok {
				v = list.NewElement()
			}
			list.Append(v)
		}
	}
}

func (r *reader) mapField(n *yaml.Node, m protoreflect.Message, f protoreflect.FieldDescriptor, path string, depth int) {
	if n.Kind != yaml.MappingNode {
		r.at(Error, n.Line, path, "want a mapping, have %s", describe(n))
		return
	}
	out := m.Mutable(f).Map()
	for _, e := range r.entries(n, path) {
		at := element(path, e.key)
		key, bad := mapKey(e.key, f.MapKey())
		switch {
		case bad != "":
			r.at(Error, e.at.Line, at, "%s", bad)
		case isNull(e.value):
			r.at(Error, e.at.Line, at, "has no value")
		case f.MapValue().Message() != nil:
			v := out.NewValue()
			r.message(e.value, v.Message(), at, depth+1)
			out.Set(key, v)
		default:
			if v, ok := r.scalar(e.value, f.MapValue(), at, depth+1); ok {
				out.Set(key, v)
			}
		}
	}
}

func mapKey(s string, f protoreflect.FieldDescriptor) (protoreflect.MapKey, string) {
	switch f.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(s).MapKey(), ""
	case protoreflect.Uint32Kind:
		if u, err := strconv.ParseUint(s, 10, 32); err == nil {
			return protoreflect.ValueOfUint32(uint32(u)).MapKey(), ""
		}
	case protoreflect.Int32Kind:
		if i, err := strconv.ParseInt(s, 10, 32); err == nil {
			return protoreflect.ValueOfInt32(int32(i)).MapKey(), ""
		}
	}
	return protoreflect.MapKey{}, fmt.Sprintf("want a whole number as key, have %q", s)
}

// scalar reads a value that is not a message. It reports what does not fit and answers false then.
func (r *reader) scalar(n *yaml.Node, f protoreflect.FieldDescriptor, path string, depth int) (protoreflect.Value, bool) {
	if !r.visit(n, path, depth) {
		return protoreflect.Value{}, false
	}
	v, bad := scalarValue(n, f)
	switch {
	case bad != "":
		r.at(Error, n.Line, path, "%s", bad)
	case f.Kind() == protoreflect.EnumKind:
		r.deprecatedEnum(n, f, v.Enum(), path)
	}
	return v, bad == ""
}

func scalarValue(n *yaml.Node, f protoreflect.FieldDescriptor) (protoreflect.Value, string) {
	switch f.Kind() {
	case protoreflect.StringKind:
		s, bad := readString(n)
		return protoreflect.ValueOfString(s), bad
	case protoreflect.BoolKind:
		b, bad := readBool(n)
		return protoreflect.ValueOfBool(b), bad
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		i, bad := readInt(n, math.MinInt32, math.MaxInt32, false)
		return protoreflect.ValueOfInt32(int32(i)), bad
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		i, bad := readInt(n, 0, math.MaxUint32, false)
		return protoreflect.ValueOfUint32(uint32(i)), bad
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		i, bad := readInt(n, math.MinInt64, math.MaxInt64, true)
		return protoreflect.ValueOfInt64(i), bad
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		i, bad := readInt(n, 0, math.MaxInt64, true)
		return protoreflect.ValueOfUint64(uint64(i)), bad
	case protoreflect.DoubleKind:
		d, bad := readFloat(n)
		return protoreflect.ValueOfFloat64(d), bad
	case protoreflect.FloatKind:
		d, bad := readFloat(n)
		return protoreflect.ValueOfFloat32(float32(d)), bad
	case protoreflect.BytesKind:
		return readBytes(n)
	case protoreflect.EnumKind:
		return readEnum(n, f.Enum())
	default:
		return protoreflect.Value{}, "cannot be read"
	}
}

func readBytes(n *yaml.Node) (protoreflect.Value, string) {
	s, bad := readString(n)
	if bad != "" {
		return protoreflect.Value{}, bad
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return protoreflect.Value{}, "want bytes in base64: " + err.Error()
	}
	return protoreflect.ValueOfBytes(b), ""
}

func readEnum(n *yaml.Node, e protoreflect.EnumDescriptor) (protoreflect.Value, string) {
	names := make([]string, e.Values().Len())
	for i := range names {
		names[i] = string(e.Values().Get(i).Name())
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
		if v := e.Values().ByName(protoreflect.Name(n.Value)); v != nil {
			return protoreflect.ValueOfEnum(v.Number()), ""
		}
		if near := nearest(n.Value, names); near != "" {
			return protoreflect.Value{}, fmt.Sprintf("unknown value %q; did you mean %s?", shorten(n.Value), near)
		}
	}
	return protoreflect.Value{}, fmt.Sprintf("want one of %s, have %s", strings.Join(names, ", "), describe(n))
}

// wellKnown fills the messages of google.protobuf, whose form in YAML is not that of their fields.
func (r *reader) wellKnown(n *yaml.Node, m protoreflect.Message, path string, depth int) bool {
	name := m.Descriptor().FullName()
	if name.Parent() != "google.protobuf" {
		return false
	}
	switch name.Name() {
	case "Duration":
		r.duration(n, m, path)
	case "Struct":
		r.structure(n, m, path, depth)
	case "BoolValue", "StringValue", "BytesValue", "Int32Value", "UInt32Value", "Int64Value", "UInt64Value", "FloatValue", "DoubleValue":
		f := m.Descriptor().Fields().ByName("value")
		if v, ok := r.scalar(n, f, path, depth); ok {
			m.Set(f, v)
		}
	default:
		r.at(Error, n.Line, path, "values of type %s cannot be read", name)
	}
	return true
}

func (r *reader) duration(n *yaml.Node, m protoreflect.Message, path string) {
	d, bad := readDuration(n)
	if bad != "" {
		r.at(Error, n.Line, path, "%s", bad)
		return
	}
	fields := m.Descriptor().Fields()
	m.Set(fields.ByName("seconds"), protoreflect.ValueOfInt64(int64(d/time.Second)))
	m.Set(fields.ByName("nanos"), protoreflect.ValueOfInt32(int32(d%time.Second)))
}

func readDuration(n *yaml.Node) (time.Duration, string) {
	const want = `want a duration such as "1.5s", "100ms" or "5m", have `
	s, bad := readString(n)
	if bad != "" {
		return 0, want + describe(n)
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, want + strconv.Quote(shorten(s))
	}
	return d, ""
}

func (r *reader) structure(n *yaml.Node, m protoreflect.Message, path string, depth int) {
	if n.Kind != yaml.MappingNode {
		r.at(Error, n.Line, path, "want a mapping, have %s", describe(n))
		return
	}
	fields, _ := r.plain(n, path, depth).(map[string]any)
	s, err := structpb.NewStruct(fields)
	if err != nil {
		r.at(Error, n.Line, path, "%s", err)
		return
	}
	proto.Merge(m.Interface(), s)
}

// plain turns a node into what encoding/json would make of it.
func (r *reader) plain(n *yaml.Node, path string, depth int) any {
	n = deref(n)
	if !r.visit(n, path, depth) {
		return nil
	}
	switch n.Kind {
	case yaml.MappingNode:
		out := map[string]any{}
		for _, e := range r.entries(n, path) {
			out[e.key] = r.plain(e.value, field(path, e.key), depth+1)
		}
		return out
	case yaml.SequenceNode:
		out := make([]any, len(n.Content))
		for i, c := range n.Content {
			out[i] = r.plain(c, element(path, i), depth+1)
		}
		return out
	}
	switch n.Tag {
	case "!!null":
		return nil
	case "!!bool":
		b, _ := readBool(n)
		return b
	case "!!int", "!!float":
		f, bad := readFloat(n)
		if bad != "" {
			r.at(Error, n.Line, path, "%s", bad)
		}
		return f
	}
	return n.Value
}
