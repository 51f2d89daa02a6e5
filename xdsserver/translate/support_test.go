package translate_test

import (
	"bytes"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"

	"github.com/meshframe/meshframe/xdsserver/config"
	"github.com/meshframe/meshframe/xdsserver/support"
	"github.com/meshframe/meshframe/xdsserver/translate"
)

// silent are fields that are supported without a trace in what is sent.
var silent = map[string]string{
	"VirtualService gateways[]":                                           "mesh, which is the default",
	"VirtualService http[].retries.retryIgnorePreviousHosts":              "of clients that bind calls to endpoints",
	"DestinationRule trafficPolicy.connectionPool.http.h2UpgradePolicy":   "gRPC is HTTP/2 anyway",
	"DestinationRule trafficPolicy.connectionPool.http.useClientProtocol": "gRPC is HTTP/2 anyway",
	"Sidecar egress[].port.protocol":                                      "that of the service counts",
	"Sidecar egress[].port.name":                                          "that of the service counts",
}

// partly are fields that gRPC's own clients support in part: what is sent for them is less than what they ask for, and not
// nothing.
var partly = []string{
	"VirtualService http[].match[].", "VirtualService http[].redirect", "VirtualService http[].directResponse", "VirtualService http[].retries.retryOn",
	"DestinationRule trafficPolicy.loadBalancer.simple", "DestinationRule trafficPolicy.loadBalancer.consistentHash",
	"DestinationRule trafficPolicy.loadBalancer.localityLbSetting", "DestinationRule trafficPolicy.loadBalancer.zoneAwareLbSetting",
	"DestinationRule trafficPolicy.tls", "MeshPolicy loadBalancer.policy",
	// Beside the detectors of a MeshPolicy, and for failover.
	"DestinationRule trafficPolicy.outlierDetection",
	// To the C core, longer than they are.
	"VirtualService http[].timeout", "MeshPolicy timeouts.max",
}

// TestSupport takes each field out of the configuration of each case, by itself, and looks at what is sent: where package
// support calls a field supported something must change, and where it says that gRPC's own clients do without it nothing.
func TestSupport(t *testing.T) {
	known := seen{}
	for file, data := range cases(t) {
		ablate(t, file, data, known)
	}
	for _, row := range slices.Sorted(maps.Keys(known)) {
		e := known[row]
		kind, field, _ := strings.Cut(row, " for ")
		switch {
		case e.supported > 0 && e.shown == 0 && silent[field] == "":
			t.Errorf("%s: %s is said to be supported, and nothing changes without it", kind, field)
		case e.leaks != "" && !slices.ContainsFunc(partly, func(p string) bool { return strings.HasPrefix(field, p) }):
			t.Errorf("%s: %s is said to be left out, and something changes without it: %s", kind, field, e.leaks)
		}
	}
	for field := range silent {
		if ours, grpc := known["Meshframe for "+field], known["gRPC for "+field]; ours != nil && ours.shown > 0 && grpc != nil && grpc.shown > 0 {
			t.Errorf("%s is not silent", field)
		}
	}
	for _, r := range support.Rows() {
		of := r.Kind + " " + r.Field
		for group, c := range map[string]support.Client{"Meshframe": {}, "gRPC": {Type: support.GRPCGo}} {
			if slices.Contains(rules, r.Kind) && known[group+" for "+of] == nil && r.Verdict(c).Outcome == support.Supported && silent[of] == "" && !alias(r.Field) {
				t.Errorf("no case has %s for %s clients", of, group)
			}
		}
	}
}

// cases are the configurations of the golden files, and those of testdata/leaves, which have what no other has.
func cases(t *testing.T) iter.Seq2[string, []byte] {
	t.Helper()
	var files []string
	for _, pattern := range []string{"testdata/*.yaml", "testdata/leaves/*.yaml"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatal(pattern, err)
		}
		files = append(files, found...)
	}
	return func(yield func(string, []byte) bool) {
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !yield(file, data) {
				return
			}
		}
	}
}

// rules are the kinds whose fields are taken out.
var rules = []string{"VirtualService", "DestinationRule", "MeshPolicy", "Sidecar"}

func alias(field string) bool {
	return field == "subsets[].trafficPolicy" || field == "trafficPolicy.portLevelSettings[]"
}

// seen is what was seen of each field, for each sort of client.
type seen map[string]*effects

// effects is what happened without a field.
type effects struct {
	supported, shown int
	leaks            string // where something changed that should not
}

func ablate(t *testing.T, file string, data []byte, known seen) {
	t.Helper()
	d := parseDirectives(t, data)
	docs, all := documentFiles(t, data)
	before := sent(t, d, all)
	for i, o := range config.Parse(file, data).Objects {
		if !slices.Contains(rules, o.Kind) {
			continue
		}
		for field := range support.Fields(o, support.Client{}) {
			whole := all[i]
			all[i] = parsed(t, i, copied(t, docs[i], field.Field))
			after := sent(t, d, all)
			all[i] = whole
			for c, e := range entries(o, field.Field, d.clients) {
				known.note(e, before[c], after[c])
			}
		}
	}
}

// documentFiles are the documents of a case, and each of them as a file.
func documentFiles(t *testing.T, data []byte) (docs []map[string]any, files []config.File) {
	t.Helper()
	docs = documents(data)
	files = make([]config.File, len(docs))
	for i, doc := range docs {
		files[i] = parsed(t, i, doc)
	}
	return docs, files
}

func documents(data []byte) (docs []map[string]any) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc map[string]any
		if dec.Decode(&doc) != nil {
			return docs
		}
		docs = append(docs, doc)
	}
}

// entries says what becomes of one field for each client.
func entries(o *config.Object, field string, clients []translate.Client) iter.Seq2[int, support.Entry] {
	return func(yield func(int, support.Entry) bool) {
		for i, c := range clients {
			for e := range support.Fields(o, c.Kind()) {
				if e.Field == field && !yield(i, e) {
					return
				}
			}
		}
	}
}

// note takes note of what is sent to a client with and without a field.
func (s seen) note(e support.Entry, before, after []byte) {
	group := "gRPC"
	if !e.Client.GRPC() {
		group = "Meshframe"
	}
	row := group + " for " + e.Object.Kind + " " + rowOf(e.Field)
	if s[row] == nil {
		s[row] = &effects{}
	}
	changed := after != nil && !bytes.Equal(before, after)
	if e.Outcome == support.Supported {
		s[row].supported++
	} else if changed && e.Client.GRPC() {
		s[row].leaks = e.String()
	}
	if changed || after == nil {
		s[row].shown++
	}
}

var (
	numbered = regexp.MustCompile(`\[\d+\]`)
	keyed    = regexp.MustCompile(`\[[^\]]+\]`)
)

// rowOf is the field of a table that speaks for a field of an object.
func rowOf(field string) string {
	field = numbered.ReplaceAllString(strings.TrimPrefix(field, "spec."), "[]")
	field = keyed.ReplaceAllString(field, "")
	field = strings.TrimPrefix(field, "subsets[].")
	if field == "name" || field == "labels" {
		return "subsets[]." + field
	}
	rest, ok := strings.CutPrefix(field, "trafficPolicy.portLevelSettings[].")
	if ok && !strings.HasPrefix(rest, "port.") {
		return "trafficPolicy." + rest
	}
	return field
}

func parsed(t *testing.T, i int, doc map[string]any) config.File {
	t.Helper()
	text, err := yaml.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return config.Parse(fmt.Sprintf("%d.yaml", i), text)
}

// copied returns a document without a field; "" is none.
func copied(t *testing.T, doc map[string]any, field string) map[string]any {
	t.Helper()
	text, err := yaml.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	var fresh map[string]any
	if err := yaml.Unmarshal(text, &fresh); err != nil {
		t.Fatal(err)
	}
	if field == "" {
		return fresh
	}
	return without(fresh, segments(field)).(map[string]any)
}

func segments(field string) []string {
	var out []string
	for _, m := range regexp.MustCompile(`[^.\[\]]+|\[[^\]]*\]`).FindAllString(field, -1) {
		out = append(out, strings.Trim(m, "[]"))
	}
	return out
}

func without(at any, path []string) any {
	switch at := at.(type) {
	case map[string]any:
		if len(path) == 1 {
			delete(at, path[0])
		} else {
			at[path[0]] = without(at[path[0]], path[1:])
		}
	case []any:
		i, err := strconv.Atoi(path[0])
		switch {
		case err != nil || i >= len(at):
		case len(path) == 1:
			return slices.Delete(at, i, i+1)
		default:
			at[i] = without(at[i], path[1:])
		}
	}
	return at
}

// sent is all that each client is sent; nil when the configuration is not valid.
func sent(t *testing.T, d directives, files []config.File) [][]byte {
	t.Helper()
	out := make([][]byte, len(d.clients))
	m, problems := config.Build(files, config.Options{})
	if config.HasErrors(problems) {
		return out
	}
	w := worldOfModel(t, d.options, m)
	var err error
	for i, c := range d.clients {
		text := []byte{}
		for _, a := range follow(t, w, w.Restrict(c), d.ask) {
			text = append(text, a.name...)
			for _, m := range []proto.Message{a.Message, a.Instead} {
				if m == nil {
					continue
				}
				if text, err = (proto.MarshalOptions{Deterministic: true}).MarshalAppend(text, m); err != nil {
					t.Fatal(err)
				}
			}
		}
		out[i] = text
	}
	return out
}
