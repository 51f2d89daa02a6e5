// Command xdsserver is Meshframe's control plane: it turns Istio YAML and the servers that register themselves into
// xDS, for Meshframe's library and for every gRPC that speaks xDS.
//
//	xdsserver --config mesh.yaml
//
// Everything it does is in the package xdsserver; this is flags and main.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signal.Ignore(syscall.SIGHUP) // by which other servers read their files again: these are followed
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
