package support

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// walker goes through the fields that an object sets, down to those that a table has a row for.
type walker struct {
	table *table
	// found is told of each row, with the path of the field, such as spec.http[0].mirror, and what it holds.
	found func(r *row, path string, value any)
}

// object walks a whole object.
func (w *walker) object(spec any) {
	if r := w.table.find(""); r != nil {
		w.found(r, "", spec)
		return
	}
	if m, ok := spec.(proto.Message); ok {
		w.message(m.ProtoReflect(), "", w.table.below)
		return
	}
	v := reflect.ValueOf(spec).Elem()
	if w.table.kind == "Service" {
		v = v.FieldByName("Spec")
	}
	w.structure(v, "", w.table.below)
}

// join makes a path of two parts.
func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// visit hands a value over if there is a row for its field; otherwise it must be looked into.
func (w *walker) visit(field, path string, value any) bool {
	r := w.table.find(field)
	if r != nil {
		w.found(r, path, value)
	}
	return r != nil
}

func (w *walker) message(m protoreflect.Message, field, path string) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		field, path := join(field, f.JSONName()), join(path, f.JSONName())
		switch {
		case f.IsMap():
			w.mapping(v.Map(), field, path)
		case f.IsList():
			for i := range v.List().Len() {
				w.value(f, v.List().Get(i), field+"[]", fmt.Sprintf("%s[%d]", path, i))
			}
		default:
			w.value(f, v, field, path)
		}
		return true
	})
	w.unset(m, field, path)
}

// unset visits the fields of a message that mean something when they are not written.
func (w *walker) unset(m protoreflect.Message, field, path string) {
	for _, name := range w.table.unset {
		f := m.Descriptor().Fields().ByJSONName(name)
		if f == nil || m.Has(f) {
			continue
		}
		if r := w.table.find(join(field, name)); r != nil && r.unset != nil {
			w.found(r, join(path, name), r.unset)
		}
	}
}

// mapping visits each key of a map: what they are mapped to makes no difference.
func (w *walker) mapping(m protoreflect.Map, field, path string) {
	m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		w.visit(field, fmt.Sprintf("%s[%s]", path, k.String()), k.String())
		return true
	})
}

func (w *walker) value(f protoreflect.FieldDescriptor, v protoreflect.Value, field, path string) {
	switch {
	case f.Message() != nil:
		if m := v.Message(); !w.visit(field, path, m.Interface()) {
			w.message(m, field, path)
		}
	case f.Enum() != nil:
		w.visit(field, path, enumName(f.Enum(), v.Enum()))
	default:
		w.visit(field, path, v.Interface())
	}
}

func enumName(e protoreflect.EnumDescriptor, n protoreflect.EnumNumber) string {
	if v := e.Values().ByNumber(n); v != nil {
		return string(v.Name())
	}
	return ""
}

// structure walks a Go struct, whose fields are set when they are not zero.
func (w *walker) structure(v reflect.Value, field, path string) {
	for _, f := range namedFields(v.Type()) {
		if in := v.FieldByIndex(f.index); !in.IsZero() && !(field == "" && f.aside()) {
			w.goValue(in, join(field, f.name), join(path, f.name))
		}
	}
}

// namedField is a field of a struct under its name in YAML.
type namedField struct {
	name  string
	index []int
	kind  reflect.Type
}

// aside reports whether a field of a whole Kubernetes object is none of its content.
func (f namedField) aside() bool {
	return slices.Contains([]string{"kind", "apiVersion", "metadata", "status"}, f.name)
}

// namedFields lists the fields of a struct, those of structs embedded without a name with them.
func namedFields(t reflect.Type) []namedField {
	var out []namedField
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case !f.IsExported() || name == "-":
		case f.Anonymous && (name == "" || strings.Contains(options, "inline")):
			for _, in := range namedFields(f.Type) {
				out = append(out, namedField{in.name, append(slices.Clone(f.Index), in.index...), in.kind})
			}
		case name != "":
			out = append(out, namedField{name, f.Index, f.Type})
		}
	}
	return out
}

func (w *walker) goValue(v reflect.Value, field, path string) {
	switch v.Kind() {
	case reflect.Pointer:
		w.goValue(v.Elem(), field, path)
	case reflect.Slice:
		for i := range v.Len() {
			w.goValue(v.Index(i), field+"[]", fmt.Sprintf("%s[%d]", path, i))
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			w.visit(field, fmt.Sprintf("%s[%s]", path, k), k.String())
		}
	case reflect.Struct:
		if !w.visit(field, path, v.Interface()) {
			w.structure(v, field, path)
		}
	case reflect.String:
		w.visit(field, path, v.String())
	default:
		w.visit(field, path, v.Interface())
	}
}

// fieldsOf lists the fields of a type, those of the messages in it with them: true for those that have none of their own.
func fieldsOf(t *table, spec any) map[string]bool {
	out := map[string]bool{}
	if m, ok := spec.(proto.Message); ok {
		messageFields(m.ProtoReflect().Descriptor(), "", nil, out)
		return out
	}
	v := reflect.TypeOf(spec).Elem()
	if t.kind == "Service" {
		f, _ := v.FieldByName("Spec")
		v = f.Type
	}
	structFields(v, "", out)
	if t.kind == "EndpointSlice" {
		delete(out, "metadata")
	}
	return out
}

func messageFields(m protoreflect.MessageDescriptor, prefix string, within []protoreflect.FullName, out map[string]bool) {
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		path := join(prefix, f.JSONName())
		if f.IsList() {
			path += "[]"
		}
		inner := f.Message()
		leaf := inner == nil || f.IsMap() || inner.ParentFile().Package() != m.ParentFile().Package() || inner.Name() == "StringMatch" ||
			slices.Contains(within, inner.FullName())
		out[path] = leaf
		if !leaf {
			messageFields(inner, path, append(slices.Clone(within), inner.FullName()), out)
		}
	}
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

func structFields(t reflect.Type, prefix string, out map[string]bool) {
	for _, f := range namedFields(t) {
		if prefix == "" && f.aside() {
			continue
		}
		path, inner := join(prefix, f.name), f.kind
		for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
			if inner.Kind() == reflect.Slice {
				path += "[]"
			}
			inner = inner.Elem()
		}
		leaf := inner.Kind() != reflect.Struct || reflect.PointerTo(inner).Implements(unmarshaler)
		out[path] = leaf
		if !leaf {
			structFields(inner, path, out)
		}
	}
}
