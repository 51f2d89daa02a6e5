package support

import (
	"fmt"
	"strings"
)

// The generated part of docs/support.md stands between these lines.
const (
	Begin = "<!-- generated: go run ./cmd/meshctl support --markdown -->"
	End   = "<!-- end of what is generated -->"
)

// Markdown writes the tables for docs/support.md, with Begin and End.
func Markdown() string {
	var b strings.Builder
	b.WriteString(Begin + "\n\n")
	for _, t := range tables {
		if t.byField[""] == nil {
			t.markdown(&b)
		}
	}
	b.WriteString("## Other kinds of Istio's\n\n| kind | all clients |\n|---|---|\n")
	for _, t := range tables {
		if r := t.byField[""]; r != nil {
			fmt.Fprintf(&b, "| %s | %s |\n", t.kind, r.library)
		}
	}
	b.WriteString("\n" + End + "\n")
	return b.String()
}

func (t *table) markdown(b *strings.Builder) {
	fmt.Fprintf(b, "## %s\n\n| field | Meshframe | gRPC's own clients |\n|---|---|---|\n", t.kind)
	for _, r := range t.rows {
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", r.field, r.library, r.grpc)
	}
	b.WriteString("\n")
}
