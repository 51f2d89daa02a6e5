package srvframe

import (
	"log/slog"
	"testing"
	"time"
)

// JoinForgetful is Join, but targets are kept only for d after the last channel to
// them was closed.
func JoinForgetful(o Options, d time.Duration) (*Mesh, error) {
	setup, err := o.setup(nil)
	if err != nil {
		return nil, err
	}
	setup.returnLinger = d
	return setup.join()
}

// SetEnvironment gives the package another environment for one test.
func SetEnvironment(t *testing.T, env map[string]string) {
	t.Helper()
	before := environment
	environment = &environmentMesh{
		getenv: func(key string) string { return env[key] },
		logger: func() *slog.Logger { return slog.New(slog.DiscardHandler) },
	}
	t.Cleanup(func() {
		if environment.mesh != nil {
			if err := environment.mesh.Close(); err != nil {
				t.Error(err)
			}
		}
		environment = before
	})
}
