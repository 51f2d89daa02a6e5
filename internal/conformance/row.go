package conformance

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc/codes"
)

// Row is one line of the table.
type Row struct {
	// Name says what the row shows; unique.
	Name string `yaml:"name"`
	// Shows are the fields that the row is about, such as
	// VirtualService.http.timeout.
	Shows []string `yaml:"shows"`
	// Not names roads on which the row cannot mean anything, with the reason.
	Not map[string]string `yaml:"not"`
	// Client describes the process that calls.
	Client Client `yaml:"client"`
	// Servers are started in this order, before the configuration is applied.
	// Without any there are v1 and v2 of reviews:9080, with the label version.
	Servers []Server `yaml:"servers"`
	// HTTP are the routes of a VirtualService for the host reviews, TrafficPolicy
	// is that of the DestinationRule which has its subsets, and MeshPolicy is the
	// spec of one for it.
	HTTP          any            `yaml:"http"`
	TrafficPolicy any            `yaml:"trafficPolicy"`
	MeshPolicy    map[string]any `yaml:"meshPolicy"`
	// Config is more of Istio's YAML, or all of it if Bare. $NAME stands for the
	// IP address of a server, which listens on port 9000; $dead is an address where
	// nobody does.
	Config string `yaml:"config"`
	Bare   bool   `yaml:"bare"`
	// Warm makes some calls before the first step, of which servers keep no
	// account, so that there is a connection to each.
	Warm bool `yaml:"warm"`
	// Steps are played one after the other.
	Steps []Step `yaml:"steps"`
}

// Client describes the process that calls.
type Client struct {
	Namespace string            `yaml:"namespace"`
	Labels    map[string]string `yaml:"labels"`
	Locality  string            `yaml:"locality"`
	// Connecting is how long it takes to connect to a server.
	Connecting time.Duration `yaml:"connecting"`
	// Functions are names of fallback functions; one answers as "function NAME".
	Functions []string `yaml:"functions"`
	// EnvoyHeaders lets calls ask for timeouts and retries by Envoy's headers.
	EnvoyHeaders bool `yaml:"envoyHeaders"`
}

// Server is one server of a service.
type Server struct {
	Name string `yaml:"name"` // it answers by it
	// Service is what it registers for: default reviews:9080; "none" registers
	// for nothing, for ServiceEntries that name its address.
	Service  string            `yaml:"service"`
	Labels   map[string]string `yaml:"labels"` // default the version: its name
	Locality string            `yaml:"locality"`
	Later    bool              `yaml:"later"` // a step starts it
	// Streams is how many calls it takes at once: more are refused by HTTP/2's
	// REFUSED_STREAM, as of a client that did not know. 0 is any number.
	Streams uint32 `yaml:"streams"`
	// ProxyProtocol is the version of the header that connections to it must begin
	// with; those without one are closed. 0 is none.
	ProxyProtocol byte `yaml:"proxyProtocol"`
	// Behave is what it does with its requests in turn, the last with all the
	// rest. Without any it answers.
	Behave []Behaviour `yaml:"behave"`
}

// Behaviour is what a server does with a request. The zero value answers.
type Behaviour struct {
	Times    int               `yaml:"times"` // of so many requests; 0: all
	Delay    time.Duration     `yaml:"delay"` // before anything is said
	Status   string            `yaml:"status"`
	Headers  map[string]string `yaml:"headers"`  // of the response
	Trailers map[string]string `yaml:"trailers"` // likewise
	Load     *Load             `yaml:"load"`     // what it says of its load at the end of the response
}

// Load is what a server says of its load (xds.data.orca.v3.OrcaLoadReport).
type Load struct {
	CPU   float64            `yaml:"cpu"` // its utilization
	QPS   float64            `yaml:"qps"`
	EPS   float64            `yaml:"eps"`
	Named map[string]float64 `yaml:"named"` // metrics of its own
}

// Step does one thing, or makes calls and compares.
type Step struct {
	Wait  time.Duration `yaml:"wait"`
	Start []string      `yaml:"start"` // servers that are marked later
	Stop  []string      `yaml:"stop"`  // servers, which withdraw
	Kill  []string      `yaml:"kill"`  // servers, as a crash does
	Apply string        `yaml:"apply"` // all the YAML there is from now on
	Call  *Call         `yaml:"call"`
	Want  Want          `yaml:"want"`
}

// Call is one call or many alike.
type Call struct {
	Target   string            `yaml:"target"`  // default reviews:9080; $NAME as in Config
	Path     string            `yaml:"path"`    // default /shop.Reviews/Get
	Headers  map[string]string `yaml:"headers"` // {i} stands for the number of the call within Cycle
	Deadline time.Duration     `yaml:"deadline"`
	Times    int               `yaml:"times"`    // default 1
	Parallel bool              `yaml:"parallel"` // all at once, else one after the other
	Every    time.Duration     `yaml:"every"`    // between one's end and the next
	Cycle    int               `yaml:"cycle"`    // default Times
	// Cookies keeps cookies that responses set, in later calls of the row with
	// the same number too.
	Cookies bool `yaml:"cookies"`
	// Carry are headers that are sent as the last response had them.
	Carry []string `yaml:"carry"`
	// Kill names a server that crashes while the calls are under way, after KillAfter.
	Kill      string        `yaml:"kill"`
	KillAfter time.Duration `yaml:"killAfter"`
}

// Want is what must come of the calls of a step. What is not set is not compared.
type Want struct {
	// Status is that of every call, or "any"; by default OK unless Statuses or
	// Rates speak.
	Status string `yaml:"status"`
	// Statuses are how many calls ended with each; no other occurs.
	Statuses map[string]int `yaml:"statuses"`
	// Rates are percentages of calls that ended with each, drawn at random.
	Rates map[string]float64 `yaml:"rates"`
	// Message is contained in the message of every call that failed.
	Message string `yaml:"message"`
	// From are percentages of the answers that came from each server, drawn at
	// random: 5 standard deviations are let pass. Of servers that are not named
	// come none.
	From map[string]float64 `yaml:"from"`
	// Answers are how many answers came from each server; from no other come any.
	Answers map[string]int `yaml:"answers"`
	// AtMost bounds how many answers came from a server, AtLeast likewise.
	AtMost  map[string]int `yaml:"atMost"`
	AtLeast map[string]int `yaml:"atLeast"`
	// Servers is how many servers at least gave answers, Most how many at most.
	Servers int `yaml:"servers"`
	Most    int `yaml:"most"`
	// Sticky says that calls of one number within the cycle got one server, over
	// all steps with Sticky.
	Sticky bool `yaml:"sticky"`
	// Moved is how many percent of the numbers at most got another server than in
	// the last step with Sticky or Moved.
	Moved *float64 `yaml:"moved"`
	// Attempts are how many requests each server saw, copies included.
	Attempts map[string]int `yaml:"attempts"`
	// Total is how many requests the servers saw together.
	Total *int `yaml:"total"`
	// Connections are on how many connections the requests that a server saw came,
	// and PerConnection is how many of them at most came on one.
	Connections   map[string]int `yaml:"connections"`
	PerConnection int            `yaml:"perConnection"`
	// Reached are percentages of the calls that a server saw, drawn at random.
	Reached map[string]float64 `yaml:"reached"`
	// Took is the duration of every call: "3s", or "1s..2s".
	Took string `yaml:"took"`
	// Headers and Trailers are those of every response: the values joined by
	// commas, a regular expression after "~", or "" for none.
	Headers  map[string]string `yaml:"headers"`
	Trailers map[string]string `yaml:"trailers"`
	// Seen are what servers saw of the requests.
	Seen []Seen `yaml:"seen"`
}

// Seen is what a server saw of every request.
type Seen struct {
	Server    string            `yaml:"server"` // default any
	Path      string            `yaml:"path"`
	Authority string            `yaml:"authority"`
	Headers   map[string]string `yaml:"headers"` // as Want.Headers
}

// Pending is a row that does not pass yet.
type Pending struct {
	Row    string   `yaml:"row"`
	Roads  []string `yaml:"roads"` // default all
	Where  string   `yaml:"where"` // the package that is at fault
	Reason string   `yaml:"reason"`
}

//go:embed testdata/*.yaml
var table embed.FS

// pendingFile lists what does not pass yet.
const pendingFile = "testdata/pending.yaml"

// Rows returns the table, with every default filled in.
func Rows() ([]*Row, error) {
	files, err := fs.Glob(table, "testdata/*.yaml")
	if err != nil {
		return nil, err
	}
	var rows []*Row
	var errs []error
	names := map[string]bool{}
	for _, file := range files {
		if file == pendingFile {
			continue
		}
		var found []*Row
		if err := load(file, &found); err != nil {
			errs = append(errs, err)
			continue
		}
		for _, row := range found {
			row.complete()
			if err := errors.Join(row.render(), row.check()); err != nil {
				errs = append(errs, fmt.Errorf("%s: row %q: %w", file, row.Name, err))
			}
			if names[row.Name] {
				errs = append(errs, fmt.Errorf("%s: there are two rows %q", file, row.Name))
			}
			names[row.Name] = true
		}
		rows = append(rows, found...)
	}
	return rows, errors.Join(errs...)
}

// PendingRows returns the rows that do not pass yet.
func PendingRows() ([]Pending, error) {
	var list []Pending
	err := load(pendingFile, &list)
	return list, err
}

// load reads a file of the table. An empty one has nothing.
func load(file string, into any) error {
	text, err := table.ReadFile(file)
	if err != nil {
		return err
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	err = d.Decode(into)
	if err == nil { // there is one document, to the end of the file
		err = d.Decode(new(any))
	}
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err == nil:
		return fmt.Errorf("%s: there is more than one document", file)
	}
	return fmt.Errorf("%s: %w", file, err)
}

// complete fills in what the row leaves out.
func (r *Row) complete() {
	if len(r.Servers) == 0 {
		r.Servers = []Server{{Name: "v1"}, {Name: "v2"}}
	}
	for i := range r.Servers {
		s := &r.Servers[i]
		switch s.Service {
		case "":
			s.Service = "reviews:9080"
		case "none":
			s.Service = ""
		}
		if s.Labels == nil {
			s.Labels = map[string]string{"version": s.Name}
		}
	}
	for i := range r.Steps {
		r.Steps[i].complete()
	}
}

func (s *Step) complete() {
	c := s.Call
	if c == nil {
		return
	}
	c.Target, c.Path = or(c.Target, "reviews:9080"), or(c.Path, "/shop.Reviews/Get")
	c.Times = max(c.Times, 1)
	if c.Cycle == 0 {
		c.Cycle = c.Times
	}
	if s.Want.Status == "" && s.Want.Statuses == nil && s.Want.Rates == nil {
		s.Want.Status = nameOf(codes.OK)
	}
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// check finds mistakes that would let a row pass without meaning it.
func (r *Row) check() error {
	if r.Name == "" || len(r.Shows) == 0 || !slices.ContainsFunc(r.Steps, func(s Step) bool { return s.Call != nil }) {
		return errors.New("want a name, what it shows and a step with a call")
	}
	names := map[string]bool{}
	for _, s := range r.Servers {
		names[s.Name] = true
		for _, b := range s.Behave {
			if _, err := codeOf(b.Status); err != nil {
				return err
			}
		}
	}
	for _, s := range r.Steps {
		if err := s.check(names); err != nil {
			return err
		}
	}
	return nil
}

func (s *Step) check(names map[string]bool) error {
	for _, name := range slices.Concat(s.Start, s.Stop, s.Kill, keys(s.Want.Attempts), keys(s.Want.Connections), keys(s.Want.Reached)) {
		if !names[name] {
			return fmt.Errorf("there is no server %q", name)
		}
	}
	for _, status := range slices.Concat([]string{s.Want.Status}, keys(s.Want.Statuses), keys(s.Want.Rates)) {
		if _, err := codeOf(status); err != nil {
			return err
		}
	}
	if _, _, err := span(s.Want.Took); err != nil {
		return err
	}
	for _, pattern := range s.Want.patterns() {
		if text, ok := strings.CutPrefix(pattern, "~"); ok {
			if _, err := regexp.Compile(text); err != nil {
				return err
			}
		}
	}
	return nil
}

// patterns are the texts that may be regular expressions.
func (w *Want) patterns() []string {
	all := slices.Concat(values(w.Headers), values(w.Trailers))
	for _, s := range w.Seen {
		all = append(all, values(s.Headers)...)
	}
	return all
}

func keys[V any](m map[string]V) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	return names
}

func values(m map[string]string) []string {
	var texts []string
	for _, text := range m {
		texts = append(texts, text)
	}
	return texts
}

// anyStatus is a status that is not compared.
const anyStatus = "any"

// codeOf reads the name of a gRPC status, "" being OK, which any is taken for.
func codeOf(name string) (codes.Code, error) {
	if name == "" {
		return codes.OK, nil
	}
	if name == anyStatus {
		return codes.OK, nil
	}
	for c := codes.OK; c <= codes.Unauthenticated; c++ {
		if nameOf(c) == name {
			return c, nil
		}
	}
	return codes.OK, fmt.Errorf("there is no status %q", name)
}

// nameOf writes a status as gRPC's specification does, such as NOT_FOUND.
func nameOf(c codes.Code) string {
	if c == codes.OK {
		return "OK"
	}
	name := strings.Builder{}
	for i, r := range c.String() {
		if i > 0 && 'A' <= r && r <= 'Z' {
			name.WriteByte('_')
		}
		name.WriteRune(r)
	}
	if c == codes.Canceled {
		return "CANCELLED"
	}
	return strings.ToUpper(name.String())
}

// span reads "3s" or "1s..2s".
func span(text string) (from, to time.Duration, err error) {
	if text == "" {
		return 0, 0, nil
	}
	low, high, both := strings.Cut(text, "..")
	if from, err = time.ParseDuration(low); err != nil || !both {
		return from, from, err
	}
	to, err = time.ParseDuration(high)
	return from, to, err
}
