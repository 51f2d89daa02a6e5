package decode

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
)

// Result is the verdict on one resource.
type Result[T any] struct {
	// Name is the resource's name: the one that the client knows it by, or,
	// when that is empty, the one in the resource itself.
	Name string
	// Value is the resource. It may hold refused parts. Unless Usable is set it
	// says at most what kind of resource it would have been.
	Value T
	// Usable is false when the resource as a whole cannot be used.
	Usable bool
	// Err lists every refused part by field and is what the control plane is to
	// be told (NACK). It is nil for a part that only a DeniedError refused on the
	// control plane's own request.
	Err error
	// Notes list the valid fields that are not honoured yet, by field.
	Notes []string
}

// DeniedError is the reason of a part that was read correctly and whose calls must
// fail nevertheless: the control plane says so, or it asks for something, such
// as TLS, that cannot be done and must not be left out. Other refusals keep the
// last good version of the part; a DeniedError replaces it.
type DeniedError struct {
	// Err is the reason, for the caller to read.
	Err error
}

// Error returns the reason.
func (d *DeniedError) Error() string { return d.Err.Error() }

// Unwrap returns the reason.
func (d *DeniedError) Unwrap() error { return d.Err }

// Deny reports true: the last good version must not be used. It lets packages
// that do not import this one recognise a DeniedError.
func (d *DeniedError) Deny() bool { return true }

// problems are the refusals of one resource, on one line.
type problems []error

func (p problems) Error() string {
	texts := make([]string, len(p))
	for i, err := range p {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func (p problems) Unwrap() []error { return p }

// report collects what is found while one resource is read.
type report struct {
	errs  problems
	notes []string
}

func (r *report) refuse(err error) { r.errs = append(r.errs, err) }

func (r *report) err() error {
	if len(r.errs) == 0 {
		return nil
	}
	return r.errs
}

// errNoName is the verdict on a resource that nobody could ask for.
var errNoName = errors.New("name: must be set")

// open unmarshals body into m. The name that the client knows the resource by
// wins over own, the one that the message holds.
func open(name string, body []byte, m proto.Message, own func() string) (string, error) {
	if err := proto.Unmarshal(body, m); err != nil {
		return name, fmt.Errorf("not a %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	if name == "" {
		name = own()
	}
	if name == "" {
		return "", errNoName
	}
	return name, nil
}
