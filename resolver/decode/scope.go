package decode

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// scope is a place in a resource: a field, or an element of a repeated field.
// Its text is only built when something has to be said about it.
type scope struct {
	report *report
	parent *scope
	field  string
	index  int    // -1 for a field that is not repeated
	label  string // the element's own name, if it has one
}

func root(r *report) *scope { return &scope{report: r, index: -1} }

func (s *scope) at(field string) *scope {
	return &scope{report: s.report, parent: s, field: field, index: -1}
}

func (s *scope) item(field string, i int, label string) *scope {
	return &scope{report: s.report, parent: s, field: field, index: i, label: label}
}

// String is the path from the resource, as in
//
//	virtual_hosts[0].routes[3] "name": route.retry_policy.num_retries
func (s *scope) String() string {
	var b strings.Builder
	s.write(&b)
	return b.String()
}

func (s *scope) write(b *strings.Builder) {
	if s.parent == nil {
		return
	}
	s.parent.write(b)
	switch {
	case s.parent.parent == nil:
	case s.parent.label != "":
		b.WriteString(": ")
	default:
		b.WriteByte('.')
	}
	b.WriteString(s.field)
	if s.index >= 0 {
		b.WriteByte('[')
		b.WriteString(strconv.Itoa(s.index))
		b.WriteByte(']')
	}
	if s.label != "" {
		b.WriteByte(' ')
		b.WriteString(strconv.Quote(s.label))
	}
}

// wrap names the place in front of err.
func (s *scope) wrap(err error) error {
	if s.parent == nil {
		return err
	}
	return fmt.Errorf("%s: %w", s, err)
}

func (s *scope) errorf(format string, args ...any) error {
	return s.wrap(fmt.Errorf(format, args...))
}

// deny is errorf for what was read and must fail calls.
func (s *scope) deny(format string, args ...any) error {
	return &DeniedError{Err: s.errorf(format, args...)}
}

func (s *scope) notef(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if s.parent != nil {
		text = s.String() + ": " + text
	}
	s.report.notes = append(s.report.notes, text)
}

// fields are the fields of one message that the decoder reads, or that change
// nothing about a call (names for statistics, descriptions).
type fields map[protoreflect.Name]bool

func newFields(names ...protoreflect.Name) fields {
	f := make(fields, len(names))
	for _, n := range names {
		f[n] = true
	}
	return f
}

// and adds the fields of more.
func (f fields) and(more fields) fields {
	maps.Copy(f, more)
	return f
}

// unknown stands for fields that this version's descriptors do not have.
const unknown = "unknown field"

// unread lists the fields of m that are set and not in read, sorted.
func unread(m proto.Message, read fields) []string {
	var names []string
	r := m.ProtoReflect()
	r.Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if !read[fd.Name()] {
			names = append(names, string(fd.Name()))
		}
		return true
	})
	if len(r.GetUnknown()) > 0 {
		names = append(names, unknown)
	}
	slices.Sort(names)
	return names
}

// noteRest notes each field of m that is set and that nobody reads.
func (s *scope) noteRest(m proto.Message, read fields) {
	for _, name := range unread(m, read) {
		s.at(name).notef("is not honoured yet")
	}
}

// noteOnce is noteRest for the first of many alike.
func (s *scope) noteOnce(m proto.Message, read fields, noted map[string]bool) {
	for _, name := range unread(m, read) {
		if !noted[s.field+"."+name] {
			noted[s.field+"."+name] = true
			s.at(name).notef("is not honoured yet")
		}
	}
}

// refuseRest returns an error if a field of m is set that nobody reads.
func (s *scope) refuseRest(m proto.Message, read fields) error {
	if names := unread(m, read); len(names) > 0 {
		return s.at(names[0]).errorf("is not supported")
	}
	return nil
}

// refuseUnknown returns an error if m has a field that this version's descriptors
// do not have. All others are read.
func (s *scope) refuseUnknown(m proto.Message) error {
	if len(m.ProtoReflect().GetUnknown()) > 0 {
		return s.at(unknown).errorf("is not supported")
	}
	return nil
}

// unsupported refuses the member of a oneof that is set.
func (s *scope) unsupported(m proto.Message, oneof protoreflect.Name) error {
	r := m.ProtoReflect()
	fd := r.WhichOneof(r.Descriptor().Oneofs().ByName(oneof))
	return s.at(string(fd.Name())).errorf("is not supported")
}

// duration reads a duration that is not negative; d may be nil, which is 0.
func (s *scope) duration(d *durationpb.Duration) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	if err := d.CheckValid(); err != nil {
		return 0, s.errorf("is not a duration: %w", err)
	}
	v := d.AsDuration()
	if v < 0 {
		return 0, s.errorf("is %v, must not be negative", v)
	}
	return v, nil
}

// positive reads a duration greater than 0, or def when it is not set.
func (s *scope) positive(d *durationpb.Duration, def time.Duration) (time.Duration, error) {
	if d == nil {
		return def, nil
	}
	v, err := s.duration(d)
	if err == nil && v == 0 {
		err = s.errorf("is 0, must be positive")
	}
	return v, err
}

// number reads an optional number, or def when it is not set.
func number(v *wrapperspb.UInt32Value, def uint32) uint32 {
	if v == nil {
		return def
	}
	return v.GetValue()
}
