package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/meshframe/meshframe/xdsserver"
	"github.com/meshframe/meshframe/xdsserver/config"
)

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

// flags are the flags as they are written.
type flags struct {
	listen    string
	admin     string
	outbound  string
	register  string
	logFormat string
	logLevel  string
	options   xdsserver.Options
}

// usageError is a mistake in the command line.
type usageError struct{ error }

// run is the program; it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cmd := newCommand(stderr)
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if bad, ok := errors.AsType[*config.Errors](err); ok {
		plural := "s"
		if len(bad.Problems) == 1 {
			plural = ""
		}
		fmt.Fprintf(stderr, "xdsserver: the configuration has %d error%s:\n%v\n", len(bad.Problems), plural, bad)
		return exitFailed
	}
	fmt.Fprintln(stderr, "xdsserver:", err)
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	return exitFailed
}

func newCommand(stderr io.Writer) *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "xdsserver --config PATH",
		Short: "Meshframe's control plane: Istio YAML in, xDS out",
		Long: `xdsserver reads Istio's and Kubernetes' objects from files, takes registrations of servers while they
serve, and tells clients by xDS where to send their calls: Meshframe's library and any gRPC that speaks xDS.

Changes of the files are taken up at once. A file that has become bad leaves what it held in force; the log and
/debug/config say so.`,
		Example: `  xdsserver --config samples/bookinfo --config mesh.yaml
  xdsserver --config /etc/mesh --listen :15010 --registration declared --state /var/lib/xdsserver`,
		Args:          noArgs(": files are given with --config"),
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := f.parse(cmd.Context(), stderr)
			if err != nil {
				return usageError{err}
			}
			return serve(cmd.Context(), f, log)
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	f.define(cmd)
	cmd.AddCommand(&cobra.Command{
		Use: "version", Short: "Print the version", Args: noArgs(""),
		Run: func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), "xdsserver version", version()) },
	})
	return cmd
}

// noArgs refuses arguments, with a hint at what is meant.
func noArgs(hint string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usageError{fmt.Errorf("unexpected argument %q%s", args[0], hint)}
		}
		return nil
	}
}

func (f *flags) define(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringArrayVar(&f.options.Config, "config", nil, "file or directory with configuration, read recursively (.yaml, .yml, .json); repeatable")
	fs.StringVar(&f.listen, "listen", "127.0.0.1:15010", "address for xDS clients")
	fs.StringVar(&f.admin, "admin", "127.0.0.1:15014", `address for health, metrics and debugging; "" for none`)
	fs.StringVar(&f.outbound, "outbound-policy", "allow-any", "what becomes of calls to unknown hosts: allow-any (DNS) or registry-only (an error)")
	fs.StringVar(&f.register, "registration", "any", "which servers may register themselves: any, declared (only for services in the configuration) or off")
	fs.StringVar(&f.options.StateDir, "state", "", "directory in which registrations and the last good configuration survive a restart")
	fs.BoolVar(&f.options.AllowUnenforced, "allow-unenforced", false, "start although the configuration has security policies that nothing enforces yet")
	fs.StringVar(&f.options.Domain, "domain", "cluster.local", "domain that short service names are completed with")
	fs.StringVar(&f.logFormat, "log-format", "text", "text or json")
	fs.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	complete := func(flag string, values ...string) {
		// It fails only for a flag that does not exist.
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
	complete("outbound-policy", "allow-any", "registry-only")
	complete("registration", "any", "declared", "off")
	complete("log-format", "text", "json")
	complete("log-level", "debug", "info", "warn", "error")
}

// parse reads the flags that are not taken as they are, and makes the logger.
func (f *flags) parse(ctx context.Context, stderr io.Writer) (*slog.Logger, error) {
	var err error
	if f.options.OutboundPolicy, err = xdsserver.ParseOutboundPolicy(f.outbound); err != nil {
		return nil, fmt.Errorf("--outbound-policy %q: want allow-any or registry-only", f.outbound)
	}
	if f.options.Registration, err = xdsserver.ParseRegistration(f.register); err != nil {
		return nil, fmt.Errorf("--registration %q: want any, declared or off", f.register)
	}
	if slices.Contains(f.options.Config, "") {
		return nil, errors.New(`--config "": want a file or a directory`)
	}
	for _, a := range []struct{ flag, address string }{{"--listen", f.listen}, {"--admin", f.admin}} {
		if !isAddress(ctx, a.address) && (a.address != "" || a.flag == "--listen") {
			return nil, fmt.Errorf("%s %q: want host:port, such as 127.0.0.1:15010", a.flag, a.address)
		}
	}
	if !config.IsDomain(f.options.Domain) {
		return nil, fmt.Errorf("--domain %q: want a domain such as cluster.local", f.options.Domain)
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return nil, fmt.Errorf("--log-level %q: want debug, info, warn or error", f.logLevel)
	}
	options := &slog.HandlerOptions{Level: level}
	switch f.logFormat {
	case "text":
		f.options.Logger = slog.New(slog.NewTextHandler(stderr, options))
	case "json":
		f.options.Logger = slog.New(slog.NewJSONHandler(stderr, options))
	default:
		return nil, fmt.Errorf("--log-format %q: want text or json", f.logFormat)
	}
	return f.options.Logger, nil
}

// isAddress reports whether an address has a port that there can be, by number or by name.
func isAddress(ctx context.Context, s string) bool {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	_, err = net.DefaultResolver.LookupPort(ctx, "tcp", port)
	return err == nil
}

// serve runs the control plane until the context ends.
func serve(ctx context.Context, f flags, log *slog.Logger) error {
	lis, err := listen("--listen", f.listen)
	if err != nil {
		return err
	}
	defer lis.Close()
	var adminLis net.Listener
	if f.admin != "" {
		if adminLis, err = listen("--admin", f.admin); err != nil {
			return err
		}
		defer adminLis.Close()
	}
	if len(f.options.Config) == 0 {
		log.Warn("there is no --config: only services of servers that register are known")
	}
	server, err := xdsserver.New(ctx, f.options)
	if err != nil {
		return err
	}
	failed := make(chan error, 2)
	go func() { failed <- server.Serve(lis) }()
	stopAdmin := func() {}
	if adminLis != nil {
		stopAdmin = serveAdmin(adminLis, server.Admin(), failed)
		log.Info("serving health, metrics and debugging", "address", adminLis.Addr().String())
	}
	log.Info("ready: serving xDS", "address", lis.Addr().String(), "version", version())
	select {
	case <-ctx.Done():
		log.Info("shutting down")
	case err = <-failed:
	}
	closeErr := server.Close()
	stopAdmin()
	return errors.Join(err, closeErr)
}

func serveAdmin(lis net.Listener, h http.Handler, failed chan<- error) (stop func()) {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := server.Serve(lis); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("serving the admin endpoint on %s: %w", lis.Addr(), err)
		}
	}()
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			_ = server.Close() // requests that take longer are cut
		}
	}
}

// listen says which address cannot be listened on, and why.
func listen(flag, address string) (net.Listener, error) {
	lis, err := net.Listen("tcp", address)
	if err == nil {
		return lis, nil
	}
	reason := err
	if sys, ok := errors.AsType[*os.SyscallError](err); ok {
		reason = sys.Err
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s %s: the port is in use", flag, address)
	}
	return nil, fmt.Errorf("%s %s: cannot listen: %w", flag, address, reason)
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
