package srvframe

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"

	"github.com/meshframe/meshframe/resolver/bootstrap"
)

// The environment of the mesh that NewClient and NewServer of this package join
// by themselves, besides gRPC's own bootstrap.
const (
	envXDS       = "MESH_XDS"
	envService   = "MESH_SERVICE"
	envNamespace = "MESH_NAMESPACE"
	envLabels    = "MESH_LABELS"
	envAddress   = "MESH_ADDRESS"
	envLocality  = "MESH_LOCALITY"
	envState     = "MESH_STATE"
)

// variables are the variables that options are read from.
var variables = map[string]string{
	"XDS": envXDS, "Service": envService, "Namespace": envNamespace, "Address": envAddress, "Locality": envLocality, "StateDir": envState,
}

// environmentOptions reads Options from the environment, and gRPC's bootstrap
// where it names one, which wins over an address. ok is false when the
// environment names no control plane.
func environmentOptions(getenv func(string) string) (o Options, config *bootstrap.Config, ok bool, err error) {
	config, ok, err = bootstrap.FromEnv(getenv)
	if err != nil {
		return Options{}, nil, true, err
	}
	if !ok {
		o.XDS = getenv(envXDS)
	}
	if !ok && o.XDS == "" {
		return Options{}, nil, false, nil
	}
	o.Service, o.Namespace, o.Address = getenv(envService), getenv(envNamespace), getenv(envAddress)
	o.Locality, o.StateDir = getenv(envLocality), getenv(envState)
	if o.Labels, err = parseLabels(getenv(envLabels)); err != nil {
		return Options{}, nil, true, fmt.Errorf("%s: %w", envLabels, err)
	}
	return o, config, true, nil
}

// parseLabels reads key=value,key=value.
func parseLabels(text string) (map[string]string, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	labels := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(pair), "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("label %q: want key=value, with commas between several", pair)
		}
		labels[key] = value
	}
	return labels, nil
}

// environment is the mesh of this process's environment.
var environment = &environmentMesh{getenv: os.Getenv, logger: slog.Default}

// environmentMesh is the mesh of an environment: joined when it is first
// needed, never left.
type environmentMesh struct {
	getenv func(string) string
	logger func() *slog.Logger

	mu    sync.Mutex
	mesh  *Mesh
	plain bool // it was said that there is no mesh
}

// join returns the mesh of the environment; ok is false when there is none. It
// looks at the environment until it finds a mesh there: a program may set it up
// after its first client.
func (e *environmentMesh) join() (mesh *Mesh, ok bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mesh != nil {
		return e.mesh, true, nil
	}
	options, config, ok, err := environmentOptions(e.getenv)
	if err == nil && ok {
		options.Logger = e.logger()
		e.mesh, err = join(options, config)
	}
	if bad, ok := errors.AsType[*optionError](err); ok {
		err = fmt.Errorf("%s: %w", variables[bad.option], bad)
	}
	switch {
	case err != nil:
		return nil, true, fmt.Errorf("srvframe: the mesh of the environment: %s", oneLine(err))
	case !ok:
		e.sayPlain()
		return nil, false, nil
	}
	return e.mesh, true, nil
}

// oneLine joins the lines of an error that lists several.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// sayPlain says once that there is no mesh.
func (e *environmentMesh) sayPlain() {
	if e.plain {
		return
	}
	e.plain = true
	e.logger().Info("srvframe: the environment names no mesh (" + envXDS + " or " + bootstrap.EnvFile +
		"): clients and servers are plain gRPC, unless they are made from a mesh of Join")
}
