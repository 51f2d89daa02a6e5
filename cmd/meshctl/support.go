package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/meshframe/meshframe/xdsserver/support"
)

func newSupport() *cobra.Command {
	var markdown bool
	var clients []string
	var output string
	cmd := &cobra.Command{
		Use:   "support [flags]",
		Short: "List what becomes of every field of every resource",
		Long: `support lists every field of every resource that can be configured, and what becomes of it for each type of client:

  supported  it does what Istio documents
  degraded   calls work, without what the field asks for
  rejected   calls that the field concerns fail, or the configuration or the client is refused

A row for a message speaks for all fields in it. Values can make a difference; analyze looks at them.`,
		Example: `  meshctl support
  meshctl support --client grpc-go@1.50,grpc-core@1.51
  meshctl support --client all --output json
  meshctl support --markdown`,
		Args:              usage(cobra.NoArgs),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if fs := cmd.Flags(); markdown && (fs.Changed("client") || fs.Changed("output")) {
				return usageError{errors.New("--markdown writes the tables of all clients: leave --client and --output out")}
			}
			if markdown {
				_, err := io.WriteString(cmd.OutOrStdout(), support.Markdown())
				return err
			}
			list, err := parseClients(clients)
			if err != nil {
				return err
			}
			switch output {
			case "text":
				return writeTables(cmd.OutOrStdout(), list)
			case "json":
				return writeRows(cmd.OutOrStdout(), list)
			default:
				return usageError{fmt.Errorf("--output %q: want text or json", output)}
			}
		},
	}
	cmd.Flags().BoolVar(&markdown, "markdown", false, "write the tables of docs/support.md")
	cmd.Flags().StringSliceVar(&clients, "client", []string{support.Meshframe.String()}, clientUsage())
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	completeClients(cmd)
	complete(cmd, "output", "text", "json")
	return cmd
}

func writeTables(out io.Writer, clients []support.Client) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, c := range clients {
		for _, r := range support.Rows() {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", c, r.Kind, r.Field, r.Verdict(c))
		}
	}
	return w.Flush()
}

// outcome is what becomes of a field, as JSON has it.
type outcome struct {
	Client  support.Client  `json:"client"`
	Kind    string          `json:"kind"`
	Field   string          `json:"field,omitempty"` // without one it is the whole object
	Outcome support.Outcome `json:"outcome"`
	Reason  string          `json:"reason,omitempty"`
}

func writeRows(out io.Writer, clients []support.Client) error {
	var list []outcome
	for _, c := range clients {
		for _, r := range support.Rows() {
			v := r.Verdict(c)
			list = append(list, outcome{c, r.Kind, r.Field, v.Outcome, v.Reason})
		}
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(list)
}
