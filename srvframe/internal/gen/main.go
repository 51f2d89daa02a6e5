// Command gen writes the part of package srvframe that only passes on what
// package google.golang.org/grpc exports: aliases for its types, constants and
// one forwarding function for each of its functions. What srvframe declares by
// hand is left out.
//
// It runs from the folder of srvframe, through go generate:
//
//	go run ./internal/gen
//
// This package makes no promise of a stable API.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/meshframe/meshframe/srvframe/internal/surface"
)

// output is the generated file, in the folder of srvframe.
const output = "grpc.gen.go"

func main() {
	if err := run(context.Background(), "."); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string) error {
	grpcDir, err := surface.GRPCDir(ctx, dir)
	if err != nil {
		return err
	}
	grpcPackage, err := surface.Parse(grpcDir, "")
	if err != nil {
		return err
	}
	own, err := surface.Parse(dir, output)
	if err != nil {
		return err
	}
	text, err := surface.Generate(grpcPackage, own)
	if err != nil {
		return err
	}
	return os.WriteFile(dir+"/"+output, text, 0o600)
}
