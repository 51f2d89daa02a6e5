// Command bookinfo is Istio's bookinfo application as one Go program without a
// cluster: an embedded control plane, six members of the mesh, and a tour that
// applies Istio's YAML step by step and checks what calls do.
//
// The way through the code: app.go starts everything, member.go joins one
// member to the mesh, details.go, ratings.go, reviews.go and productpage.go are
// the application, apply.go puts YAML where the control plane reads it, and
// tour.go with steps.go drives requests and judges what came back.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

// Exit statuses.
const (
	statusOK     = 0
	statusFailed = 1 // a step of the tour failed, or the program could not start
	statusUsage  = 2
)

func main() { os.Exit(untilSignal()) }

func untilSignal() int {
	// A reader that has seen enough ends it as Ctrl-C does.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGPIPE)
	defer stop()
	return run(ctx, os.Args[1:], os.Stdout, os.Stderr)
}

// settings are the flags.
type settings struct {
	listen  string
	config  string
	exit    bool
	verbose bool
}

const usage = `bookinfo runs Istio's bookinfo application and a control plane in this process,
plays a tour through Istio's traffic management, and then serves the page.

Usage: bookinfo [flags]

  -listen ADDRESS  where the page is served (default %s)
  -config DIR      use the YAML files of DIR in place of the example's own; DIR, DIR/networking or
                   DIR/bookinfo/networking holds files of the same names, as Istio's samples do
  -exit            end after the tour, with status 0 only if every step showed what it should
  -v               log what the control plane and the members do

`

const defaultListen = "127.0.0.1:9080"

func parse(args []string, stderr io.Writer) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("bookinfo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprintf(stderr, usage, defaultListen) }
	flags.StringVar(&s.listen, "listen", defaultListen, "")
	flags.StringVar(&s.config, "config", "", "")
	flags.BoolVar(&s.exit, "exit", false, "")
	flags.BoolVar(&s.verbose, "v", false, "")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		err := fmt.Errorf("unexpected argument %q", flags.Arg(0))
		fmt.Fprintf(stderr, "bookinfo: %v\n\n", err)
		flags.Usage()
		return s, err
	}
	return s, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	s, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return statusOK
	case err != nil:
		return statusUsage
	}
	passed, err := play(ctx, s, newScreen(stdout), stderr)
	switch {
	case err != nil:
		fmt.Fprintf(stderr, "bookinfo: %v\n", err)
		return statusFailed
	case s.exit && !passed:
		return statusFailed
	}
	return statusOK
}

// play starts everything, plays the tour, and serves on until ctx ends unless
// the settings say otherwise.
func play(ctx context.Context, s settings, out *screen, stderr io.Writer) (passed bool, err error) {
	steps, err := loadSteps(s.config)
	if err != nil {
		return false, err
	}
	a, err := start(ctx, s.listen, newLoggers(stderr, s.verbose))
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, a.close(ctx, s.exit)) }()
	out.printf("The page   %s\nThe YAML   %s\nThe mesh   %s (what the control plane serves, and to whom)\n", a.pageURL, a.config.dir, a.adminURL)

	passed, err = newTour(a, out, pagesPerStep).play(ctx, steps)
	if err != nil {
		if ctx.Err() != nil {
			return false, nil // interrupted: no failure, and no pass
		}
		return false, err
	}
	if s.exit {
		return passed, nil
	}
	out.printf("\nServing on. Open  %s\nEdit a file in    %s   and load the page again.\nCtrl-C ends.\n", a.pageURL, a.config.dir)
	<-ctx.Done()
	out.printf("\nThe YAML stays in %s\n", a.config.dir)
	return passed, nil
}

// loggers are what the parts of the program log to.
type loggers struct{ control, members *slog.Logger }

// newLoggers returns loggers that say what is wrong, or everything: of the
// control plane, what is wrong with the YAML; of the members, what breaks them.
func newLoggers(out io.Writer, verbose bool) loggers {
	out = &shared{out: out}
	at := func(level slog.Level) *slog.Logger {
		if verbose {
			level = slog.LevelInfo
		}
		return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level}))
	}
	return loggers{control: at(slog.LevelWarn), members: at(slog.LevelError)}
}
