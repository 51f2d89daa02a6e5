package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/meshframe/meshframe/xdsserver/config"
	"github.com/meshframe/meshframe/xdsserver/files"
	"github.com/meshframe/meshframe/xdsserver/registry"
	"github.com/meshframe/meshframe/xdsserver/support"
	"github.com/meshframe/meshframe/xdsserver/translate"
)

// analysis is what analyze is asked for.
type analysis struct {
	clients         []string
	output          string
	domain          string
	registration    string
	allowUnenforced bool
	strict          bool
}

// findings are what analyze found.
type findings struct {
	files    []config.File
	objects  int
	problems []config.Problem
	// fields is what served clients do not do as it is written.
	fields []support.Entry
	// unserved are the clients that were asked for and are not served at all.
	unserved []refusal
}

// refusal is a client that is not served, and why.
type refusal struct {
	Client support.Client `json:"client"`
	Reason string         `json:"reason"`
}

func newAnalyze() *cobra.Command {
	var a analysis
	cmd := &cobra.Command{
		Use:        "analyze PATH... [flags]",
		SuggestFor: []string{"validate", "lint", "check", "vet"},
		Short:      "Find what is wrong with configuration, and what clients make of it",
		Long: `analyze reads files and directories (.yaml, .yml, .json, recursively) as xdsserver does, standard input for -, all of them
together: where an object is defined twice, one of its files would be refused. Name alternatives one at a time. It lists

- errors: xdsserver would refuse the file;
- warnings: something will not do what its author may expect, such as a route that no request can reach, a subset that
  no rule defines or that has no endpoints, a host or gateway that nothing declares;
- for each type of client, the fields that it does not do as they are written: degraded or rejected. Of gRPC's own
  clients a release can be named, as in grpc-core@1.51; without one it is the newest.

It ends with status 1 if there are errors, with --strict also if there are warnings, and with 2 for a wrong command line.`,
		Example: `  meshctl analyze samples/bookinfo
  meshctl analyze --client all --output json mesh.yaml
  meshctl analyze --strict --registration off /etc/mesh
  kubectl get virtualservices,destinationrules -o yaml | meshctl analyze -`,
		Args: usage(somePaths),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"yaml", "yml", "json"}, cobra.ShellCompDirectiveFilterFileExt
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.run(cmd.InOrStdin(), cmd.OutOrStdout(), args) },
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringSliceVar(&a.clients, "client", []string{support.Meshframe.String()}, clientUsage())
	fs.StringVarP(&a.output, "output", "o", "text", "text or json")
	fs.BoolVar(&a.strict, "strict", false, "end with status 1 for warnings too")
	fs.StringVar(&a.domain, "domain", config.DefaultDomain, "domain that short service names are completed with")
	fs.StringVar(&a.registration, "registration", "any", "which servers may register themselves, as xdsserver is told: any, declared or off")
	fs.BoolVar(&a.allowUnenforced, "allow-unenforced", false, "warn of security policies that nothing enforces yet, in place of an error")
	completeClients(cmd)
	complete(cmd, "output", "text", "json")
	complete(cmd, "registration", "any", "declared", "off")
	return cmd
}

// somePaths wants something to read.
func somePaths(_ *cobra.Command, args []string) error {
	if len(args) == 0 || slices.Contains(args, "") {
		return errors.New("want a PATH to read: a file, a directory, or - for standard input")
	}
	return nil
}

func (a *analysis) run(in io.Reader, out io.Writer, paths []string) error {
	clients, err := parseClients(a.clients)
	if err != nil {
		return err
	}
	policy, err := registry.ParsePolicy(a.registration)
	if err != nil {
		return usageError{fmt.Errorf("--%w", err)}
	}
	if !config.IsDomain(a.domain) {
		return usageError{fmt.Errorf("--domain %q: want a domain such as cluster.local", a.domain)}
	}
	read, err := readAll(in, paths)
	if err != nil {
		return err
	}
	f := a.find(read, clients, policy)
	switch a.output {
	case "text":
		err = f.text(out)
	case "json":
		err = f.json(out)
	default:
		return usageError{fmt.Errorf("--output %q: want text or json", a.output)}
	}
	if err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	if f.count(config.Error) > 0 || a.strict && f.count(config.Warning) > 0 {
		return errFound
	}
	return nil
}

// readAll reads files and directories; "-" is what comes in. Pipes, as shells make them for <(command), are read too.
func readAll(in io.Reader, paths []string) (out []config.File, err error) {
	var rest []string
	stdin := false
	for _, p := range paths {
		switch info, err := os.Stat(p); {
		case p == "-" && stdin:
		case p == "-":
			stdin = true
			data, err := io.ReadAll(in)
			if err != nil {
				return nil, fmt.Errorf("reading standard input: %w", err)
			}
			out = append(out, config.Parse("-", data))
		case err == nil && !info.Mode().IsRegular() && !info.IsDir():
			data, err := os.ReadFile(p)
			if err != nil {
				return nil, err
			}
			out = append(out, config.Parse(p, data))
		default:
			rest = append(rest, p)
		}
	}
	return append(out, files.Read(rest...)...), nil
}

func (a *analysis) find(read []config.File, clients []support.Client, policy registry.Policy) *findings {
	f := &findings{files: read}
	model, problems := config.Build(f.files, config.Options{
		Domain: a.domain, AllowUnenforced: a.allowUnenforced, OpenRegistration: policy == registry.Any,
	})
	f.problems = append(problems, registry.Lint(model, policy != registry.Off)...)
	slices.SortStableFunc(f.problems, func(x, y config.Problem) int {
		return cmp.Or(strings.Compare(x.File, y.File), cmp.Compare(x.Line, y.Line), cmp.Compare(x.Severity, y.Severity))
	})
	f.objects = len(model.Objects())
	switch {
	case len(f.files) == 0:
		f.problems = append(f.problems, config.Problem{Severity: config.Warning, Message: "nothing was read: there is no file whose name ends in .yaml, .yml or .json"})
	case f.objects == 0 && f.count(config.Error) == 0:
		f.problems = append(f.problems, config.Problem{Severity: config.Warning, Message: "nothing was found: there is no object that a mesh reads"})
	}
	world := translate.NewWorld(registry.Configured(model), translate.Options{}, nil)
	for _, c := range clients {
		if c.Served() {
			f.fields = append(f.fields, support.Report(model, c)...)
			f.fields = append(f.fields, world.Notes(c)...)
		} else {
			f.unserved = append(f.unserved, refusal{c, c.Refusal()})
		}
	}
	return f
}

func (f *findings) count(s config.Severity) int {
	n := 0
	for _, p := range f.problems {
		if p.Severity == s {
			n++
		}
	}
	return n
}

func (f *findings) text(out io.Writer) error {
	var b strings.Builder
	for _, p := range f.problems {
		fmt.Fprintf(&b, "%s: %s\n", p.Severity, p)
	}
	if len(f.fields) > 0 {
		b.WriteString("\nWhat clients do not do as it is written:\n")
	}
	for _, g := range grouped(f.fields) {
		e := g[0]
		names := make([]string, len(g))
		for i := range g {
			names[i] = g[i].Client.String()
		}
		fmt.Fprintf(&b, "%s: %s:%d: %s: ", e.Outcome, e.Object.Source.File, e.Line, e.Object.ID())
		if e.Field != "" {
			b.WriteString(e.Field + ": ")
		}
		fmt.Fprintf(&b, "%s [%s]\n", e.Reason, strings.Join(names, ", "))
	}
	for _, c := range f.unserved {
		fmt.Fprintf(&b, "%s: everything [%s]: %s\n", support.Rejected, c.Client, c.Reason)
	}
	fmt.Fprintf(&b, "\n%s, %s: %s, %s\n", several(len(f.files), "file"), several(f.objects, "object"),
		several(f.count(config.Error), "error"), several(f.count(config.Warning), "warning"))
	_, err := io.WriteString(out, strings.TrimLeft(printable(b.String()), "\n"))
	return err
}

// several writes a number of things.
func several(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// printable replaces what would command a terminal: texts of files come through as they are.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// grouped puts entries together that differ only in the client, in the order of files and lines.
func grouped(all []support.Entry) [][]support.Entry {
	type key struct {
		object *config.Meta
		field  string
		support.Verdict
	}
	groups := map[key]int{}
	var out [][]support.Entry
	for _, e := range all {
		k := key{e.Object, e.Field, e.Verdict}
		i, ok := groups[k]
		if !ok {
			i = len(out)
			groups[k] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], e)
	}
	slices.SortStableFunc(out, func(a, b []support.Entry) int {
		return cmp.Or(strings.Compare(a[0].Object.Source.File, b[0].Object.Source.File), cmp.Compare(a[0].Line, b[0].Line),
			strings.Compare(a[0].Field, b[0].Field))
	})
	return out
}

// problem is a config.Problem as JSON has it.
type problem struct {
	Severity  string `json:"severity"`
	File      string `json:"file"`
	Line      int    `json:"line,omitempty"`
	Kind      string `json:"kind,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	Field     string `json:"field,omitempty"`
	Message   string `json:"message"`
}

func (f *findings) json(out io.Writer) error {
	result := struct {
		Files    int             `json:"files"`
		Objects  int             `json:"objects"`
		Errors   int             `json:"errors"`
		Warnings int             `json:"warnings"`
		Problems []problem       `json:"problems"`
		Support  []support.Entry `json:"support"`
		Unserved []refusal       `json:"unserved,omitempty"`
	}{
		Files: len(f.files), Objects: f.objects, Errors: f.count(config.Error), Warnings: f.count(config.Warning),
		Problems: []problem{}, Support: append([]support.Entry{}, f.fields...), Unserved: f.unserved,
	}
	for _, p := range f.problems {
		result.Problems = append(result.Problems, problem{
			Severity: p.Severity.String(), File: p.File, Line: p.Line, Kind: p.Kind, Namespace: p.Namespace, Name: p.Name,
			Field: p.Field, Message: p.Message,
		})
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(result)
}
