package srvframe_test

import (
	"bytes"
	"os"
	"reflect"
	"slices"
	"testing"

	"google.golang.org/grpc"

	"github.com/meshframe/meshframe/srvframe"
	"github.com/meshframe/meshframe/srvframe/internal/surface"
)

// missing are the exported identifiers of grpc that srvframe leaves out, with
// the reason. There are none.
var missing = map[string]string{}

// grpcSurface reads what package grpc exports, in the version that is linked.
func grpcSurface(t *testing.T) surface.Package {
	t.Helper()
	dir, err := surface.GRPCDir(t.Context(), ".")
	if err != nil {
		t.Fatal(err)
	}
	exported, err := surface.Parse(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if len(exported) < 150 {
		t.Fatalf("found %d exported identifiers in grpc %s; the search is broken", len(exported), grpc.Version)
	}
	return exported
}

// TestSurface holds that srvframe has every exported identifier of grpc.
func TestSurface(t *testing.T) {
	want := grpcSurface(t)
	got, err := surface.Parse(".", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range want.Names() {
		switch reason := missing[name]; {
		case got[name] == nil && reason == "":
			t.Errorf("%s %s is missing; run go generate", want[name].Kind, name)
		case got[name] != nil && reason != "":
			t.Errorf("%s is there although %q", name, reason)
		case got[name] != nil && got[name].Kind != want[name].Kind:
			t.Errorf("%s is a %s, in grpc a %s", name, got[name].Kind, want[name].Kind)
		case got[name] != nil && got[name].Deprecated != want[name].Deprecated:
			t.Errorf("%s is deprecated: %v, in grpc %v", name, got[name].Deprecated, want[name].Deprecated)
		}
	}
}

// TestGenerated holds that the generated file is the one that the generator
// writes today.
func TestGenerated(t *testing.T) {
	const file = "grpc.gen.go"
	own, err := surface.Parse(".", file)
	if err != nil {
		t.Fatal(err)
	}
	want, err := surface.Generate(grpcSurface(t), own)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is out of date; run go generate", file)
	}
}

// TestServerMethods holds that Server has every method of grpc.Server, with the
// same signature.
func TestServerMethods(t *testing.T) {
	want, got := reflect.TypeFor[*grpc.Server](), reflect.TypeFor[*srvframe.Server]()
	for method := range want.Methods() {
		ours, ok := got.MethodByName(method.Name)
		if !ok {
			t.Errorf("method %s is missing", method.Name)
			continue
		}
		if a, b := signature(method.Type), signature(ours.Type); a != b {
			t.Errorf("method %s is %s, in grpc %s", method.Name, b, a)
		}
	}
}

// signature describes a method's type without its receiver.
func signature(method reflect.Type) string {
	in := slices.Collect(method.Ins())[1:]
	return reflect.FuncOf(in, slices.Collect(method.Outs()), method.IsVariadic()).String()
}
