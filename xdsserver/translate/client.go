package translate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/meshframe/meshframe/xdsserver/support"
)

// Client is what translation knows of who asks. Clients that are equal are sent the same bytes. Of Labels, Locality and
// Serves only what some rule reads matters, see World.Restrict.
type Client struct {
	Type      support.Type
	Release   support.Release // of a client of gRPC's own; zero is the newest
	Namespace string
	Labels    map[string]string // of the workload
	Locality  string            // "region/zone/subzone", "" unknown
	Serves    []Served          // what the inbound listeners of a server stand for
}

// Served is a port of a service that an inbound listener stands for.
type Served struct {
	Host   string // may be short
	Port   uint32 // of the service
	Listen uint32 // that the server listens on; 0 is any
}

// ours says that the client is one of this project's, which does all that Envoy's API can say and reads
// filter_metadata["meshframe"]. gRPC's own clients are sent only what they interpret.
func (c Client) ours() bool { return !c.Type.GRPC() }

// Kind is what package support knows of the client.
func (c Client) Kind() support.Client { return support.Client{Type: c.Type, Release: c.Release} }

// knows reports whether the client does something that gRPC's own clients do from some release on.
func (c Client) knows(f support.Feature) bool { return c.Kind().Knows(f) }

// Key returns a text that is the same for equal clients only.
func (c Client) Key() string {
	var b strings.Builder
	b.WriteString(c.Kind().String() + "/" + c.Namespace)
	for _, k := range slices.Sorted(maps.Keys(c.Labels)) {
		fmt.Fprintf(&b, "/%s=%s", k, c.Labels[k])
	}
	if c.Locality != "" {
		fmt.Fprintf(&b, "@%s", c.Locality)
	}
	for _, s := range c.Serves {
		fmt.Fprintf(&b, ";%s:%d=%d", s.Host, s.Port, s.Listen)
	}
	return b.String()
}
