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
	clientsMarkdown(&b)
	releasesMarkdown(&b)
	for _, t := range tables {
		if t.byField[""] == nil {
			t.markdown(&b)
		}
	}
	b.WriteString("## Other kinds of Istio's\n\n| kind | Meshframe and gRPC's own clients |\n|---|---|\n")
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
		grpc := r.grpc.String()
		if r.needs != 0 {
			grpc += fmt.Sprintf("; without [%s](#releases-of-grpc) %s", r.needs.row().name, r.without)
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", r.field, r.library, grpc)
	}
	b.WriteString("\n")
}

// clientsMarkdown lists the types of clients.
func clientsMarkdown(b *strings.Builder) {
	b.WriteString("## Clients\n\n| client | |\n|---|---|\n")
	for _, c := range Clients() {
		switch reason := c.Refusal(); {
		case reason != "":
			fmt.Fprintf(b, "| `%s` | rejected, whatever the field: %s |\n", c, reason)
		case c.GRPC():
			fmt.Fprintf(b, "| `%s` | the column of gRPC's own clients, from release %s on; older ones are refused |\n", c, oldest[c.Type])
		default:
			fmt.Fprintf(b, "| `%s` | the column of Meshframe |\n", c)
		}
	}
	b.WriteString("\n")
}

// releasesMarkdown lists what gRPC's own clients do from which release on.
func releasesMarkdown(b *strings.Builder) {
	b.WriteString("## Releases of gRPC\n\n| | gRFC |")
	var list []Type
	for _, c := range Clients() {
		if c.GRPC() {
			list = append(list, c.Type)
			fmt.Fprintf(b, " `%s` |", c)
		}
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---|", len(list)) + "\n")
	for _, f := range features {
		fmt.Fprintf(b, "| %s | %s |", f.name, f.grfc)
		for _, t := range list {
			if f.since[t] == never {
				b.WriteString(" in none |")
			} else {
				fmt.Fprintf(b, " %s |", f.since[t])
			}
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
}
