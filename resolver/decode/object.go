package decode

import (
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/structpb"
)

// object reads metadata strictly: a key that nobody asks for is refused, and so
// is a value of another kind than asked for. The first refusal is kept, so that
// readers need not look at each; err returns it.
type object struct {
	at       *scope
	fields   map[string]*structpb.Value
	asked    map[string]bool
	children []*object
	problem  *error // shared with the children
}

// newObject opens m, which may be nil: it then has no keys.
func newObject(at *scope, m *structpb.Struct) *object {
	return &object{at: at, fields: m.GetFields(), asked: map[string]bool{}, problem: new(error)}
}

// err returns the first refusal. It comes after everything was asked for.
func (o *object) err() error {
	o.refuseUnasked()
	return *o.problem
}

func (o *object) refuseUnasked() {
	for _, key := range slices.Sorted(maps.Keys(o.fields)) {
		if !o.asked[key] {
			o.fail(key, "is not known")
		}
	}
	for _, c := range o.children {
		c.refuseUnasked()
	}
}

func (o *object) fail(key, format string, args ...any) {
	if *o.problem == nil {
		*o.problem = o.at.at(key).errorf(format, args...)
	}
}

func (o *object) has(key string) bool { return o.fields[key] != nil }

func (o *object) require(key string) {
	if !o.has(key) {
		o.fail(key, "must be set")
	}
}

// oneOf refuses all but exactly one of the keys.
func (o *object) oneOf(names ...string) {
	n := 0
	for _, key := range names {
		if o.has(key) {
			n++
		}
	}
	if n != 1 && *o.problem == nil {
		*o.problem = o.at.errorf("exactly one of %s must be set", strings.Join(names, ", "))
	}
}

// value returns what the key holds; nil if it is absent, or not of the kind,
// which is then refused.
func (o *object) value(key, kind string, is func(*structpb.Value) bool) *structpb.Value {
	o.asked[key] = true
	v := o.fields[key]
	if v != nil && !is(v) {
		o.fail(key, "must be %s", kind)
		return nil
	}
	return v
}

// text reads a text that is not empty, or "" if the key is absent.
func (o *object) text(key string) string {
	return o.value(key, "a text that is not empty", func(v *structpb.Value) bool { return v.GetStringValue() != "" }).GetStringValue()
}

func (o *object) flag(key string) bool {
	return o.value(key, "true or false", func(v *structpb.Value) bool {
		_, ok := v.GetKind().(*structpb.Value_BoolValue)
		return ok
	}).GetBoolValue()
}

// number reads a number between least and most, or def if the key is absent. A
// def outside of them makes the key a required one.
func (o *object) number(key string, def, least, most float64) float64 {
	v := o.value(key, "a number", func(v *structpb.Value) bool {
		_, ok := v.GetKind().(*structpb.Value_NumberValue)
		return ok
	})
	n := def
	if v != nil {
		n = v.GetNumberValue()
	}
	switch {
	case n >= least && n <= most:
		return n
	case v == nil:
		o.require(key)
	default:
		o.fail(key, "is %.10g, must be between %.10g and %.10g", n, least, most)
	}
	return 0
}

// positive reads a number above 0 and up to most, or def if the key is absent.
func (o *object) positive(key string, def, most float64) float64 {
	n := o.number(key, def, 0, most)
	if n == 0 {
		o.fail(key, "must be positive")
	}
	return n
}

// whole is number for whole numbers.
func (o *object) whole(key string, def, least, most uint32) uint32 {
	n := o.number(key, float64(def), float64(least), float64(most))
	if n != math.Trunc(n) {
		o.fail(key, "is %v, must be a whole number", n)
	}
	return uint32(n)
}

// count reads a whole number from 1, or def if the key is absent; 0 makes the
// key a required one.
func (o *object) count(key string, def uint32) uint32 {
	return o.whole(key, def, 1, math.MaxUint32)
}

// duration reads a positive duration, or def if the key is absent; 0 makes the
// key a required one.
func (o *object) duration(key string, def time.Duration) time.Duration {
	d := def
	if text := o.text(key); text != "" {
		d = o.parse(key, text)
	}
	if d <= 0 {
		o.fail(key, "must be positive")
	}
	return d
}

// optionalDuration reads a duration that is not negative; 0 if the key is
// absent.
func (o *object) optionalDuration(key string) time.Duration {
	text := o.text(key)
	if text == "" {
		return 0
	}
	d := o.parse(key, text)
	if d < 0 {
		o.fail(key, "is %v, must not be negative", d)
	}
	return d
}

func (o *object) parse(key, text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		o.fail(key, "%q is not a duration", text)
	}
	return d
}

// object opens the object that the key holds; nil if it is absent.
func (o *object) object(key string) *object {
	v := o.value(key, "an object", isObject)
	if v == nil {
		return nil
	}
	return o.child(o.at.at(key), v)
}

// list opens the objects that the key holds a list of.
func (o *object) list(key string) []*object {
	v := o.value(key, "a list of objects", func(v *structpb.Value) bool {
		return v.GetListValue() != nil && !slices.ContainsFunc(v.GetListValue().GetValues(), func(v *structpb.Value) bool { return !isObject(v) })
	})
	var out []*object
	for i, element := range v.GetListValue().GetValues() {
		out = append(out, o.child(o.at.item(key, i, ""), element))
	}
	return out
}

func isObject(v *structpb.Value) bool { return v.GetStructValue() != nil }

func (o *object) child(at *scope, v *structpb.Value) *object {
	c := newObject(at, v.GetStructValue())
	c.problem = o.problem
	o.children = append(o.children, c)
	return c
}
