package xdsclient_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/meshframe/meshframe/resolver/xdsclient"
)

// The tests use two resource types, one of each kind, whose decoded form is a
// short text: the "alt stat name" of a cluster, the first endpoint name of a
// load assignment.

func clusterType() *xdsclient.ResourceType[string] {
	return &xdsclient.ResourceType[string]{
		TypeURL:   "type.googleapis.com/envoy.config.cluster.v3.Cluster",
		FullState: true,
		Decode: func(_ string, body []byte) xdsclient.Decoded[string] {
			var m clusterv3.Cluster
			if err := proto.Unmarshal(body, &m); err != nil {
				return xdsclient.Decoded[string]{Err: errors.New("not a cluster")}
			}
			return judge(m.GetName(), m.GetAltStatName())
		},
	}
}

func endpointType() *xdsclient.ResourceType[string] {
	return &xdsclient.ResourceType[string]{
		TypeURL: "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
		Name:    "Endpoints",
		Decode: func(_ string, body []byte) xdsclient.Decoded[string] {
			var m endpointv3.ClusterLoadAssignment
			if err := proto.Unmarshal(body, &m); err != nil {
				return xdsclient.Decoded[string]{Err: errors.New("not a load assignment")}
			}
			for text := range m.GetNamedEndpoints() {
				return judge(m.GetClusterName(), text)
			}
			return judge(m.GetClusterName(), "")
		},
	}
}

// judge refuses what says so.
func judge(name, text string) xdsclient.Decoded[string] {
	d := xdsclient.Decoded[string]{Name: name, Value: text, Usable: true}
	switch {
	case strings.HasPrefix(text, "bad"):
		d.Usable, d.Err = false, fmt.Errorf("text: %q is bad", text)
	case strings.HasPrefix(text, "part"):
		d.Err = fmt.Errorf("text: half of %q is bad", text)
	case strings.HasPrefix(text, "panic"):
		panic(text)
	}
	return d
}

func cluster(name, text string) *clusterv3.Cluster {
	return &clusterv3.Cluster{Name: name, AltStatName: text}
}

func endpoints(name, text string) *endpointv3.ClusterLoadAssignment {
	return &endpointv3.ClusterLoadAssignment{ClusterName: name, NamedEndpoints: map[string]*endpointv3.Endpoint{text: {}}}
}

func pack(m proto.Message) *anypb.Any {
	a, err := anypb.New(m)
	if err != nil {
		panic(err)
	}
	return a
}

// recorder is a Watcher that writes down what it is told.
type recorder struct {
	name string
	log  func(line string)
	then func() // run in each callback, if set

	mu    sync.Mutex
	hold  bool     // keep done functions
	dones []func() // kept
}

func (r *recorder) Update(u xdsclient.Update[string], done func()) {
	line := fmt.Sprintf("update %s %s version=%s", u.Name, u.Value, u.Version)
	if u.Stale {
		line += " stale"
	}
	if u.Err != nil {
		line += " but " + u.Err.Error()
	}
	r.note(line, done)
}

func (r *recorder) Missing(_ string, err error, done func()) { r.note("missing: "+err.Error(), done) }

func (r *recorder) Error(_ string, err error, done func()) { r.note("error: "+err.Error(), done) }

func (r *recorder) note(line string, done func()) {
	r.log(r.name + " " + line)
	if r.then != nil {
		r.then()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hold {
		r.dones = append(r.dones, done)
		return
	}
	done()
}

// release calls the kept done functions, and keeps no more.
func (r *recorder) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hold = false
	for _, done := range r.dones {
		done()
	}
	r.dones = nil
}
