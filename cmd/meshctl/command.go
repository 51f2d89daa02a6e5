package main

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/meshframe/meshframe/xdsserver/support"
)

// Exit codes.
const (
	exitFailed = 1 // the configuration has errors, or something else failed
	exitUsage  = 2
)

// usageError is a mistake in the command line.
type usageError struct{ error }

// errFound says that the configuration has errors, which have been written.
var errFound = errors.New("the configuration has errors")

// run is the program; it returns the exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	cmd := newCommand()
	cmd.SetArgs(args)
	cmd.SetIn(stdin)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.Execute()
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errFound):
		return exitFailed
	}
	fmt.Fprintln(stderr, "meshctl:", err)
	if errors.As(err, new(usageError)) {
		return exitUsage
	}
	return exitFailed
}

func newCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "meshctl",
		Short: "Look at the configuration of a mesh",
		Long: `meshctl looks at the configuration of a mesh without running one: Istio's and Kubernetes' objects, and Meshframe's
own, in files.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version(),
		Args:          known,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	cmd.SuggestionsMinimumDistance = 2
	cmd.AddCommand(newAnalyze(), newSupport(), &cobra.Command{
		Use: "version", Short: "Print the version", Args: usage(cobra.NoArgs), ValidArgsFunction: cobra.NoFileCompletions,
		Run: func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), "meshctl version", version()) },
	})
	return cmd
}

// usage makes the errors about arguments those of the command line.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}

// known refuses what is no command, and says which one may be meant.
func known(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		err = fmt.Errorf("%w: did you mean %s?", err, strings.Join(near, " or "))
	}
	return usageError{err}
}

// everyClient stands for all types of clients.
const everyClient = "all"

// parseClients reads the values of --client.
func parseClients(names []string) ([]support.Client, error) {
	var out []support.Client
	for _, name := range names {
		if name == everyClient {
			return support.Clients(), nil
		}
		c, err := support.ParseClient(name)
		if err != nil {
			return nil, usageError{fmt.Errorf("--client: %w; %s is all types", err, everyClient)}
		}
		out = append(out, c)
	}
	return out, nil
}

// clientUsage describes --client.
func clientUsage() string {
	var names []string
	for _, c := range support.Clients() {
		names = append(names, c.String())
	}
	return "type of client: " + strings.Join(names, ", ") + " or " + everyClient + "; of gRPC's own also a release, as in grpc-core@1.51; repeatable"
}

// completeClients offers the names of clients.
func completeClients(cmd *cobra.Command) {
	names := []string{everyClient}
	for _, c := range support.Clients() {
		names = append(names, c.String())
	}
	complete(cmd, "client", names...)
}

func complete(cmd *cobra.Command, flag string, values ...string) {
	// It fails only for a flag that does not exist.
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

// version is the module's version and the revision that it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && !strings.Contains(v, s.Value[:min(12, len(s.Value))]) {
			v += " " + s.Value
		}
	}
	return v + " " + runtime.Version()
}
