package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity says what a Problem means for the object it was found in.
type Severity uint8

const (
	// Error: the object cannot be used. At start it stops the process; on a reload the file that holds it is refused
	// and its previous objects stay in force.
	Error Severity = iota
	// Warning: the object is used, but some of it will not do what its author may expect.
	Warning
	// Info: nothing is wrong; something was passed over that does not concern the mesh.
	Info
)

// String returns "error", "warning" or "info".
func (s Severity) String() string {
	switch s {
	case Error:
		return "error"
	case Warning:
		return "warning"
	default:
		return "info"
	}
}

// Problem is one finding about one place in the configuration.
type Problem struct {
	Severity Severity
	File     string // as it was given to Parse
	Line     int    // from 1; 0 when the finding is about the file as a whole (it cannot be opened)
	Kind     string // of the object, "" when it could not be read that far
	// Namespace and Name identify the object.
	Namespace, Name string
	// Field is the path of the field inside the object, such as spec.http[0].route[1].weight; "" for the whole object.
	Field   string
	Message string
}

// String writes the problem on one line: "file:line: Kind namespace/name: field: message", leaving out what is unknown.
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
		}
		b.WriteString(": ")
	}
	if object := p.object(); object != "" {
		b.WriteString(object + ": ")
	}
	if p.Field != "" {
		b.WriteString(p.Field + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// object writes "Kind namespace/name", leaving out what is unknown.
func (p Problem) object() string {
	if p.Name == "" {
		return p.Kind
	}
	return strings.TrimLeft(p.Kind+" "+p.Namespace+"/"+p.Name, " ")
}

// Errors is the error made of problems of severity Error; its text lists every one on a line of its own.
type Errors struct {
	Problems []Problem
}

// Error lists all problems, one per line.
func (e *Errors) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// AsError returns the problems of severity Error as an *Errors, nil when there are none.
func AsError(problems []Problem) error {
	var bad []Problem
	for _, p := range problems {
		if p.Severity == Error {
			bad = append(bad, p)
		}
	}
	if bad == nil {
		return nil
	}
	return &Errors{Problems: bad}
}

// HasErrors reports whether any of the problems has severity Error.
func HasErrors(problems []Problem) bool {
	return slices.ContainsFunc(problems, func(p Problem) bool { return p.Severity == Error })
}

// Refused returns the files that have errors, whose present content is therefore not in force, in the order of the
// problems.
func Refused(problems []Problem) []string {
	var out []string
	for _, p := range problems {
		if p.Severity == Error && !slices.Contains(out, p.File) {
			out = append(out, p.File)
		}
	}
	return out
}

// sortProblems puts problems into the order in which a person reads files.
func sortProblems(problems []Problem) {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Severity, b.Severity),
			strings.Compare(a.Field, b.Field), strings.Compare(a.Message, b.Message))
	})
}
