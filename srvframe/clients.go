package srvframe

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"path/filepath"
	"sync"

	"github.com/meshframe/meshframe/resolver/xdsclient"
)

// clients are the clients of the control planes. With one control plane there is
// one. With several there is one for each target, as in gRPC (gRFC A71): a client
// that lacks something during an outage of the first control plane goes to the
// next with everything that it watches, so a target that lacks nothing must not
// share the client of one that does. The client of a target ends with the last
// channel to it, or with the mesh; without a watch it has no stream.
type clients struct {
	first    *xdsclient.Client // of servers, and of the targets where they have none of their own
	config   xdsclient.Config  // of targets
	stateDir string

	mu       sync.Mutex
	byTarget map[string]*xdsclient.Client
	closed   bool
	closing  sync.WaitGroup // clients of targets that nobody uses
}

func newClients(ofServers, ofTargets xdsclient.Config, stateDir string) (*clients, error) {
	first, err := xdsclient.New(ofServers)
	if err != nil {
		return nil, err
	}
	return &clients{first: first, config: ofTargets, stateDir: stateDir, byTarget: map[string]*xdsclient.Client{}}, nil
}

// of returns the client of a target.
func (c *clients) of(target string) *xdsclient.Client {
	if len(c.config.Servers) == 1 {
		return c.first
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.first // it is closed, too
	}
	if client := c.byTarget[target]; client != nil {
		return client
	}
	client, err := c.make(target)
	if err != nil { // the same configuration was good for the first
		c.config.Logger.Error("srvframe: a target shares its connection to the control planes", "target", target, "error", err)
		client = c.first
	}
	c.byTarget[target] = client
	return client
}

// make makes the client of a target. What it keeps on disk is in a folder of its
// own: what one control plane says is missing may be there on another.
func (c *clients) make(target string) (*xdsclient.Client, error) {
	config := c.config
	if c.stateDir != "" {
		sum := sha256.Sum256([]byte(target))
		store, err := xdsclient.NewFileStore(filepath.Join(c.stateDir, "targets", hex.EncodeToString(sum[:16])))
		if err != nil {
			return nil, err
		}
		config.Cache = store
	}
	return xdsclient.New(config)
}

// ended closes the client of a target that has no channel any more.
func (c *clients) ended(target string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	client := c.byTarget[target]
	if client == nil || c.closed {
		return
	}
	delete(c.byTarget, target)
	if client == c.first {
		return
	}
	c.closing.Go(func() {
		if err := client.Close(); err != nil {
			c.config.Logger.Warn("srvframe: closing the connection to the control planes", "target", target, "error", err)
		}
	})
}

// close closes all clients, and waits for them.
func (c *clients) close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.closing.Wait()
	errs := []error{c.first.Close()}
	for _, client := range c.byTarget {
		errs = append(errs, client.Close())
	}
	return errors.Join(errs...)
}
