package archtest

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	networking "istio.io/api/networking/v1alpha3"
)

// supported are the resources whose every field stands in the support table.
var supported = map[string]proto.Message{
	"VirtualService":  &networking.VirtualService{},
	"DestinationRule": &networking.DestinationRule{},
	"ServiceEntry":    &networking.ServiceEntry{},
	"WorkloadEntry":   &networking.WorkloadEntry{},
}

// supportRow is a row of a table whose first cell is a field.
var supportRow = regexp.MustCompile("^\\| `([^`]+)` \\|(.*)\\|$")

// TestSupportTable holds that docs/support.md says of every field of the
// resources that carry traffic whether it works, and speaks of no other field.
// A row for a message speaks for all fields below it.
func TestSupportTable(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "support.md"))
	if err != nil {
		t.Fatal(err)
	}
	for section := range strings.SplitSeq(string(text), "\n## ") {
		title, body, _ := strings.Cut(section, "\n")
		message, ok := supported[title]
		if !ok {
			continue
		}
		delete(supported, title)
		checkSection(t, title, body, fieldPaths(message.ProtoReflect().Descriptor(), "", nil))
	}
	for title := range supported {
		t.Errorf("docs/support.md has no section %s", title)
	}
}

// checkSection compares the rows of a section with the fields of its resource.
func checkSection(t *testing.T, title, body string, paths map[string]bool) {
	t.Helper()
	var rows []string
	for line := range strings.SplitSeq(body, "\n") {
		found := supportRow.FindStringSubmatch(line)
		if found == nil {
			continue
		}
		if _, exists := paths[found[1]]; !exists {
			t.Errorf("%s has no field %s", title, found[1])
		}
		if slices.Contains(rows, found[1]) {
			t.Errorf("%s: %s has two rows", title, found[1])
		}
		rows = append(rows, found[1])
	}
	for path, leaf := range paths {
		if leaf && !slices.ContainsFunc(rows, func(row string) bool {
			return path == row || strings.HasPrefix(path, row+".") || strings.HasPrefix(path, row+"[]")
		}) {
			t.Errorf("%s: docs/support.md says nothing about %s", title, path)
		}
	}
}

// fieldPaths lists the fields of a message and of the messages in it, such as
// http[].route[].weight; true for those without fields of their own.
func fieldPaths(message protoreflect.MessageDescriptor, prefix string, within []protoreflect.FullName) map[string]bool {
	paths := map[string]bool{}
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		path := prefix + field.JSONName()
		if field.IsList() {
			path += "[]"
		}
		inner := field.Message()
		isLeaf := inner == nil || field.IsMap() || inner.ParentFile().Package() != message.ParentFile().Package() ||
			inner.Name() == "StringMatch" || slices.Contains(within, inner.FullName())
		paths[path] = isLeaf
		if isLeaf {
			continue
		}
		maps.Copy(paths, fieldPaths(inner, path+".", append(within, inner.FullName())))
	}
	return paths
}
