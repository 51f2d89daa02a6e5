package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/meshframe/meshframe/xdsserver/support"
)

func newSupport() *cobra.Command {
	var markdown bool
	var clients []string
	cmd := &cobra.Command{
		Use:   "support [flags]",
		Short: "List what becomes of every field of every resource",
		Long: `support lists every field of every resource that can be configured, and what becomes of it for each type of client:

  supported       it does what Istio documents
  degraded        calls work, without what the field asks for
  rejected        calls that the field concerns fail
  not served yet  it is accepted, and nothing is made of it`,
		Example: `  meshctl support
  meshctl support --client grpc-go
  meshctl support --markdown`,
		Args:              usage(cobra.NoArgs),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if markdown {
				_, err := io.WriteString(cmd.OutOrStdout(), support.Markdown())
				return err
			}
			list, err := parseClients(clients)
			if err != nil {
				return err
			}
			return writeTables(cmd.OutOrStdout(), list)
		},
	}
	cmd.Flags().BoolVar(&markdown, "markdown", false, "write the tables of docs/support.md")
	cmd.Flags().StringSliceVar(&clients, "client", []string{support.Meshframe.String()}, "type of client: one of those of analyze, or all; repeatable")
	completeClients(cmd)
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
