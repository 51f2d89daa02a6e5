package config

import (
	"time"

	"go.yaml.in/yaml/v3"
)

// DefaultNamespace is the namespace of objects that name none.
const DefaultNamespace = "default"

// Object is one decoded object of a file.
type Object struct {
	Meta
	// Spec is the decoded content. For Istio kinds it is the message of istio.io/api that the spec field holds, of the
	// same Go type whichever version of the API the object names (*networkingv1alpha3.VirtualService for v1alpha3,
	// v1beta1 and v1). For Kubernetes kinds it is the whole object (*corev1.Service, *discoveryv1.EndpointSlice).
	// It must not be written to.
	Spec any

	digest [32]byte // of everything that matters: kind, name, labels, annotations, age, spec; not position or status
}

// Meta says what an object is called and where it was written.
type Meta struct {
	APIVersion  string // as written, "networking.istio.io/v1"
	Kind        string
	Namespace   string // DefaultNamespace when the file names none
	Name        string
	Labels      map[string]string
	Annotations map[string]string
	Created     time.Time // zero when the file does not say
	Source      Source
}

// Source is the place of an object in the configuration.
type Source struct {
	File string // as it was given to Parse
	Line int    // the object's first line, from 1

	node *yaml.Node // the object's mapping, to find the lines of its fields
}

// ID returns "Kind namespace/name".
func (m *Meta) ID() string { return m.Kind + " " + m.Namespace + "/" + m.Name }

// LineOf returns the line of a field such as "spec.http[0].timeout". Of a path that the object does not have it
// returns the line of the nearest enclosing field that it has.
func (m *Meta) LineOf(field string) int { return m.Source.lineOf(field) }

// File is one file of configuration after Parse.
type File struct {
	Name     string
	Data     []byte // as read; must not be written to
	Objects  []*Object
	Problems []Problem // found by Parse, or by whoever tried to read the file

	broken []*Object // objects with an error, to see which are defined twice
	passed []passed  // objects of kinds that the mesh does not read
}
