package bootstrap

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/structpb"
)

// The environment variables of gRPC. The first names a file and wins over the
// second, which holds the bootstrap itself.
const (
	EnvFile   = "GRPC_XDS_BOOTSTRAP"
	EnvInline = "GRPC_XDS_BOOTSTRAP_CONFIG"
)

const (
	credsInsecure = "insecure"
	credsTLS      = "tls"

	newStyle = "xdstp:"
)

// Error is one thing that is wrong with a bootstrap. Parse joins several with
// errors.Join.
type Error struct {
	// Source is where the bootstrap was read, as Config.Source; "" for Parse.
	Source string
	// Path is the place in the JSON, such as "xds_servers[0].server_uri"; ""
	// for the whole.
	Path string
	// Problem says what is wrong and what was expected.
	Problem string
}

// Error names source, path and problem.
func (e *Error) Error() string {
	parts := []string{"bootstrap"}
	for _, s := range []string{e.Source, e.Path, e.Problem} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, ": ")
}

// FromEnv reads the bootstrap that gRPC's environment variables name. ok is
// false if neither is set. getenv is usually os.Getenv.
func FromEnv(getenv func(string) string) (c *Config, ok bool, err error) {
	if file := getenv(EnvFile); file != "" {
		source := EnvFile + "=" + file
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, true, fmt.Errorf("bootstrap: %s: %w", EnvFile, err)
		}
		c, err = parse(source, data)
		return c, true, err
	}
	if text := getenv(EnvInline); text != "" {
		c, err = parse(EnvInline, []byte(text))
		return c, true, err
	}
	return nil, false, nil
}

// Parse reads a bootstrap.
func Parse(data []byte) (*Config, error) { return parse("", data) }

func parse(source string, data []byte) (*Config, error) {
	r := &reader{source: source}
	root, err := decode(data)
	if err != nil {
		r.problemf("", "%v", err)
		return nil, r.err()
	}
	c := r.config(value{r: r, v: root})
	if err := r.err(); err != nil {
		return nil, err
	}
	c.Source, c.Warnings = source, r.warnings
	return c, nil
}

// decode reads one JSON value, keeping numbers as written.
func decode(data []byte) (root any, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	err = d.Decode(&root)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = errors.New("want one JSON object, found more after it")
		}
	}
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, errors.New("the JSON ends early")
	case errors.As(err, &syntax):
		before := data[:min(int(syntax.Offset), len(data))]
		return nil, fmt.Errorf("line %d, column %d: %w", 1+bytes.Count(before, []byte("\n")), len(before)-bytes.LastIndexByte(before, '\n')-1, err)
	}
	return root, err
}

// reader collects what is wrong while the tree is walked.
type reader struct {
	source   string
	errs     []error
	warnings []string
}

func (r *reader) problemf(path, format string, args ...any) {
	r.errs = append(r.errs, &Error{Source: r.source, Path: path, Problem: fmt.Sprintf(format, args...)})
}

func (r *reader) warn(path, text string) { r.warnings = append(r.warnings, path+": "+text) }

func (r *reader) err() error { return errors.Join(r.errs...) }

// value is a JSON value and where it stands.
type value struct {
	r    *reader
	path string
	v    any
}

func (v value) want(what string) { v.r.problemf(v.path, "want %s, found %s", what, kind(v.v)) }

func kind(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case json.Number:
		return "a number"
	case string:
		return "a string"
	case []any:
		return "a list"
	}
	return "an object"
}

func (v value) str() string {
	s, ok := v.v.(string)
	if !ok {
		v.want("a string")
	}
	return s
}

func (v value) list() []value {
	l, ok := v.v.([]any)
	if !ok {
		v.want("a list")
	}
	out := make([]value, len(l))
	for i := range l {
		out[i] = value{v.r, fmt.Sprintf("%s[%d]", v.path, i), l[i]}
	}
	return out
}

// raw is the value as JSON.
func (v value) raw() json.RawMessage {
	out, err := json.Marshal(v.v)
	if err != nil { // it was read from JSON
		v.r.problemf(v.path, "%v", err)
	}
	return out
}

// object is a JSON object whose fields are ticked off as they are read.
type object struct {
	value
	fields map[string]any
}

func (v value) object() object {
	m, ok := v.v.(map[string]any)
	if !ok {
		v.want("an object")
	}
	return object{v, maps.Clone(m)}
}

// get takes a field. null counts as absent.
func (o object) get(key string) (value, bool) {
	v, ok := o.fields[key]
	delete(o.fields, key)
	return value{o.r, join(o.path, key), v}, ok && v != nil
}

func (o object) str(key string) string {
	if v, ok := o.get(key); ok {
		return v.str()
	}
	return ""
}

// each takes all fields that are left, by name.
func (o object) each(f func(name string, v value)) {
	for _, k := range slices.Sorted(maps.Keys(o.fields)) {
		f(k, value{o.r, join(o.path, k), o.fields[k]})
	}
}

// rest warns of the fields that nobody took.
func (o object) rest() {
	o.each(func(_ string, v value) { o.r.warn(v.path, "unknown field, ignored") })
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// config reads the whole bootstrap.
func (r *reader) config(root value) *Config {
	o := root.object()
	c := &Config{Node: &corev3.Node{}, ClientDefaultListenerResourceNameTemplate: "%s"}
	if root.v == nil || o.fields == nil {
		return c
	}
	if v, ok := o.get("xds_servers"); ok {
		c.Servers = r.servers(v)
	} else {
		r.problemf("xds_servers", "want a list of at least one server, found none")
	}
	if v, ok := o.get("node"); ok {
		c.Node = r.node(v)
	}
	if v, ok := o.get("certificate_providers"); ok {
		c.CertificateProviders = r.providers(v)
	}
	if v, ok := o.get("authorities"); ok {
		c.Authorities = r.authorities(v)
	}
	c.ServerListenerResourceNameTemplate = r.template(o, "server_listener_resource_name_template", c.Authorities)
	if t := r.template(o, "client_default_listener_resource_name_template", c.Authorities); t != "" {
		c.ClientDefaultListenerResourceNameTemplate = t
	}
	o.rest()
	return c
}

func (r *reader) servers(v value) []Server {
	if l, ok := v.v.([]any); ok && len(l) == 0 {
		r.problemf(v.path, "want a list of at least one server, found none")
	}
	var out []Server
	for _, e := range v.list() {
		out = append(out, r.server(e))
	}
	return out
}

func (r *reader) server(v value) Server {
	var s Server
	o := v.object()
	if o.fields == nil {
		return s
	}
	if uri, ok := o.get("server_uri"); ok && uri.v != "" {
		s.URI = uri.str()
	} else {
		r.problemf(uri.path, "want a gRPC target such as \"127.0.0.1:15010\", found none")
	}
	creds, _ := o.get("channel_creds")
	r.creds(creds, &s)
	if f, ok := o.get("server_features"); ok {
		for _, e := range f.list() {
			if name, ok := e.v.(string); ok { // else of a later version of the format
				s.Features = append(s.Features, name)
			}
		}
	}
	o.rest()
	return s
}

// creds takes the first credentials that are supported.
func (r *reader) creds(v value, s *Server) {
	if v.v == nil {
		r.problemf(v.path, "want a list of at least one type of credentials, found none")
		return
	}
	var seen []string
	for _, e := range v.list() {
		o := e.object()
		kind := o.str("type")
		seen = append(seen, fmt.Sprintf("%q", kind))
		config, ok := o.get("config")
		if kind != credsInsecure && kind != credsTLS || s.Creds != nil {
			continue
		}
		o.rest()
		s.CredsType = kind
		if ok {
			s.CredsConfig = config.raw()
		} else {
			config.v = map[string]any{}
		}
		if kind == credsTLS {
			s.Creds = r.tls(config.object())
		} else {
			s.Creds = insecure.NewCredentials()
		}
	}
	if _, isList := v.v.([]any); isList && s.Creds == nil {
		r.problemf(v.path, "want credentials of type %q or %q, found [%s]", credsInsecure, credsTLS, strings.Join(seen, ", "))
	}
}

// tls reads the configuration of gRFC A65.
func (r *reader) tls(o object) *fileTLS {
	t := &fileTLS{
		roots: o.str("ca_certificate_file"),
		cert:  o.str("certificate_file"),
		key:   o.str("private_key_file"),
	}
	if (t.cert == "") != (t.key == "") {
		r.problemf(o.path, "want both certificate_file and private_key_file, or neither; found one")
	}
	if v, ok := o.get("refresh_interval"); ok {
		if d, err := time.ParseDuration(v.str()); err != nil || d <= 0 {
			r.problemf(v.path, "want a positive duration such as \"600s\"")
		}
	}
	o.rest()
	return t
}

func (r *reader) node(v value) *corev3.Node {
	o := v.object()
	n := &corev3.Node{Id: o.str("id"), Cluster: o.str("cluster")}
	if m, ok := o.get("metadata"); ok {
		n.Metadata = m.toStruct()
	}
	if l, ok := o.get("locality"); ok {
		lo := l.object()
		n.Locality = &corev3.Locality{Region: lo.str("region"), Zone: lo.str("zone"), SubZone: lo.str("sub_zone")}
		lo.rest()
	}
	if n.GetId() == "" {
		r.warn(join(v.path, "id"), "missing; most control planes tell their clients apart by it")
	}
	o.rest()
	return n
}

func (v value) toStruct() *structpb.Struct {
	out := &structpb.Struct{Fields: map[string]*structpb.Value{}}
	v.object().each(func(name string, f value) { out.Fields[name] = f.toProto() })
	return out
}

func (v value) toProto() *structpb.Value {
	switch x := v.v.(type) {
	case bool:
		return structpb.NewBoolValue(x)
	case string:
		return structpb.NewStringValue(x)
	case json.Number:
		f, err := x.Float64()
		if err != nil {
			v.r.problemf(v.path, "want a number that fits 64 bits, found %s", x)
		}
		return structpb.NewNumberValue(f)
	case []any:
		list := &structpb.ListValue{}
		for _, e := range v.list() {
			list.Values = append(list.Values, e.toProto())
		}
		return structpb.NewListValue(list)
	case map[string]any:
		return structpb.NewStructValue(v.toStruct())
	}
	return structpb.NewNullValue()
}

func (r *reader) providers(v value) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	v.object().each(func(name string, p value) {
		o := p.object()
		if name, ok := o.get("plugin_name"); ok {
			name.str()
		} else if o.fields != nil {
			r.problemf(name.path, "want the name of a plugin such as \"file_watcher\", found none")
		}
		if c, ok := o.get("config"); ok {
			c.object()
		}
		out[name] = p.raw()
	})
	return out
}

func (r *reader) authorities(v value) map[string]Authority {
	out := map[string]Authority{}
	v.object().each(func(name string, e value) {
		o := e.object()
		prefix := "xdstp://" + url.PathEscape(name) + "/"
		a := Authority{ClientListenerResourceNameTemplate: o.str("client_listener_resource_name_template")}
		switch t := a.ClientListenerResourceNameTemplate; {
		case t == "":
			a.ClientListenerResourceNameTemplate = prefix + "envoy.config.listener.v3.Listener/%s"
		case !strings.HasPrefix(t, prefix):
			r.problemf(join(e.path, "client_listener_resource_name_template"), "want a text that starts with %q, found %q", prefix, t)
		}
		if s, ok := o.get("xds_servers"); ok && len(s.list()) > 0 {
			a.Servers = r.servers(s)
		}
		o.rest()
		out[name] = a
	})
	if len(out) > 0 {
		r.warn(v.path, "names with an authority (xdstp://) are not resolved yet")
	}
	return out
}

// template reads the template of a resource name. A new-style name is opaque to
// this version: it works if the servers of its authority are the usual ones.
func (r *reader) template(o object, key string, authorities map[string]Authority) string {
	v, ok := o.get(key)
	if !ok {
		return ""
	}
	t := v.str()
	if !strings.HasPrefix(t, newStyle) {
		return t
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(t, newStyle+"//"), "/")
	a, known := authorities[unescape(name)]
	switch {
	case !known:
		r.problemf(v.path, "want a name whose authority %q is in authorities, found %q", name, t)
	case len(a.Servers) > 0:
		r.problemf(v.path, "authority %q has xds_servers of its own, which is not supported", name)
	}
	return t
}

func unescape(s string) string {
	if u, err := url.PathUnescape(s); err == nil {
		return u
	}
	return s
}
