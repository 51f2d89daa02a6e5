package config

import (
	"cmp"
	"slices"
	"strings"

	security "istio.io/api/security/v1beta1"
)

// Options say how Build treats the configuration.
type Options struct {
	// Domain is the cluster's domain; "" means DefaultDomain.
	Domain string
	// AllowUnenforced turns the errors about security policies that nothing enforces yet into warnings.
	AllowUnenforced bool
	// OpenRegistration says that servers may register for services that the configuration does not declare; that a rule
	// names such a service is then worth no warning, only an Info.
	OpenRegistration bool
	// Previous is the model in force, nil at the start. Build takes from it the objects of files that it refuses and the
	// pointers of objects that did not change.
	Previous *Model
}

// Build checks all files together and makes the model.
//
// On a reload (opts.Previous is set) a file with an error, found by Parse or here, is refused as a whole: what the
// previous model has from it stays in force, and of a new file nothing is taken. At the start the model holds whatever
// could be read, so that one look shows every problem; a caller that gets errors then should not serve it.
//
// The problems are those of the files and those found here, in the order of files and lines. The model is never nil.
func Build(files []File, opts Options) (*Model, []Problem) {
	opts.Domain = PlainHost(cmp.Or(opts.Domain, DefaultDomain))
	if opts.Previous != nil && opts.Previous.Domain != opts.Domain {
		opts.Previous = nil // nothing of it can be used again
	}
	b := builder{opts: opts}
	b.load(files)
	b.settle()
	m := b.model()
	b.problems = append(b.problems, passedOver(files)...)
	sortProblems(b.problems)
	return m, b.problems
}

type builder struct {
	opts     Options
	sources  []*source
	problems []Problem
}

// source is one file and what is taken from it.
type source struct {
	File
	bad   bool  // its present content is refused
	taken *held // what is in force
}

// held is the content of a file that is in force.
type held struct {
	data    []byte
	objects []*Object
}

func (b *builder) load(files []File) {
	for _, f := range files {
		s := &source{File: f}
		for _, o := range f.Objects {
			s.Problems = append(s.Problems, b.unenforced(o)...)
		}
		s.bad = HasErrors(s.Problems)
		b.sources = append(b.sources, s)
	}
	slices.SortStableFunc(b.sources, func(x, y *source) int { return strings.Compare(x.Name, y.Name) })
}

// unenforced reports policies that would be believed to protect something.
func (b *builder) unenforced(o *Object) []Problem {
	r := newReader(&o.Meta)
	var at, what string
	switch spec := o.Spec.(type) {
	case *security.AuthorizationPolicy:
		what = "no request is denied by it"
	case *security.RequestAuthentication:
		what = "no token is checked by it"
	case *security.PeerAuthentication:
		if at = strictField(spec); at == "" {
			r.warnf("", "accepted, but not served yet: connections are plaintext")
			return r.problems
		}
		what = "plaintext connections are accepted all the same"
	default:
		return nil
	}
	if b.opts.AllowUnenforced {
		r.warnf(at, "not enforced yet: %s", what)
	} else {
		r.errorf(at, "not enforced yet: %s. Remove it, or allow unenforced policies (--allow-unenforced) to get a warning instead", what)
	}
	return r.problems
}

// settle decides what is taken from each file: two files that define the same object cannot both be taken.
func (b *builder) settle() {
	for {
		for _, s := range b.sources {
			s.taken = b.take(s)
		}
		if !b.refuseTwins() {
			break
		}
	}
	b.brokenTwins()
	for _, s := range b.sources {
		b.problems = append(b.problems, s.Problems...)
		if s.bad && b.opts.Previous != nil && (s.Data != nil || b.opts.Previous.files[s.Name] != nil) {
			b.problems = append(b.problems, Problem{Severity: Warning, File: s.Name, Message: b.fate(s)})
		}
	}
}

func (b *builder) take(s *source) *held {
	switch {
	case !s.bad || b.opts.Previous == nil:
		return &held{data: s.Data, objects: s.Objects}
	case b.opts.Previous.files[s.Name] != nil:
		return b.opts.Previous.files[s.Name]
	default:
		return &held{}
	}
}

func (b *builder) fate(s *source) string {
	if b.opts.Previous.files[s.Name] == nil {
		return "the file is refused, nothing of it is in force"
	}
	return "the file is refused, what it held before stays in force"
}

// owner is who defines an object.
type owner struct {
	source *source
	object *Object
}

// refuseTwins finds objects that are defined twice and reports each at the place that is refused for it. It answers true
// as soon as a file has become bad by that, so that what is taken must be decided again.
func (b *builder) refuseTwins() bool {
	first := map[string]owner{}
	for _, s := range b.sources {
		kept := s.bad && b.opts.Previous != nil
		var rest []*Object
		for _, o := range s.taken.objects {
			loser, other := owner{s, o}, o
			if found, twice := first[o.key()]; twice {
				other = found.object
				if kept || b.newcomer(found) && !b.newcomer(loser) {
					loser, other = found, o
				}
				if b.refuse(loser, other) {
					return true
				}
			}
			if other == o {
				first[o.key()] = owner{s, o}
				rest = append(rest, o)
			}
		}
		if b.opts.Previous == nil {
			s.taken = &held{data: s.taken.data, objects: rest}
		}
	}
	return false
}

// newcomer reports whether the object was in force before, from another file.
func (b *builder) newcomer(o owner) bool {
	if b.opts.Previous == nil {
		return false
	}
	before, ok := b.opts.Previous.origin[o.object.key()]
	return ok && before != o.source.Name
}

// refuse reports an object that another place defines too, and answers whether that changes what is in force.
func (b *builder) refuse(o owner, other *Object) bool {
	r := newReader(&o.object.Meta)
	advice := "with other content: remove one of them, or read such alternatives one at a time"
	if o.object.digest == other.digest {
		advice = "with the same content: remove one of them"
	}
	r.at(Error, o.object.Source.Line, "", "is defined twice, first at %s:%d, %s", other.Source.File, other.Source.Line, advice)
	o.source.Problems = append(o.source.Problems, r.problems...)
	became := !o.source.bad
	o.source.bad = true
	return became && b.opts.Previous != nil
}

// brokenTwins reports objects with an error that another place defines too: their files are refused already, but one
// look should show everything that is wrong.
func (b *builder) brokenTwins() {
	first := map[string]*Object{}
	for _, s := range b.sources {
		for _, o := range s.Objects {
			if first[o.key()] == nil {
				first[o.key()] = o
			}
		}
	}
	for _, s := range b.sources {
		for _, o := range s.broken {
			other := first[o.key()]
			if other == nil {
				first[o.key()] = o
				continue
			}
			r := newReader(&o.Meta)
			r.at(Error, o.Source.Line, "", "is defined twice, also at %s:%d: remove one of them", other.Source.File, other.Source.Line)
			s.Problems = append(s.Problems, r.problems...)
		}
	}
}

// key identifies an object among all: two objects with the same key are the same one, written twice.
func (o *Object) key() string {
	return o.Group() + "/" + o.Kind + " " + o.Namespace + "/" + o.Name
}
