package xdsserver_test

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/meshframe/meshframe/xdsserver"
)

const inbound = "xds.istio.io/grpc/lds/inbound/"

// serverNode is a server that stands for services.
func serverNode(id string, services ...any) *corev3.Node {
	return node(id, map[string]any{
		"GENERATOR": "grpc", "NAMESPACE": "default", "LABELS": map[string]any{"version": "v1"},
		"INSTANCE_IPS": "10.0.8.1", "MESH_SERVICES": services,
	})
}

// follow subscribes a client to the endpoints of a service and returns what it gets.
type follower struct {
	*ads
	cluster string
	last    []string
}

func follow(t *testing.T, s *xdsserver.Server, protocol, cluster string) *follower {
	t.Helper()
	f := &follower{ads: connect(t, dial(t, s.Dialer()), protocol, grpcNode()), cluster: cluster}
	f.subscribe(eds, cluster)
	return f
}

// sees checks the endpoints that the client has now.
func (f *follower) sees(want ...string) {
	f.Helper()
	for _, m := range f.drain() {
		if a := m.resources[f.cluster]; a != nil {
			f.last = addresses(a)
		}
		if slices.Contains(m.removed, f.cluster) {
			f.last = nil
		}
	}
	if !slices.Equal(f.last, want) {
		f.Fatalf("got %v, want %v", f.last, want)
	}
}

func TestRegistrationIsALease(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		s := embedded(t, xdsserver.Options{})
		f := follow(t, s, protocol, rcName)
		f.sees()

		server := connect(t, dial(t, s.Dialer()), protocol, serverNode("s1", "reviews:9080"))
		server.subscribe(lds, inbound+"10.0.8.1:7000")
		m := server.expect("LDS +" + inbound + "10.0.8.1:7000")
		l := m[0].resources[inbound+"10.0.8.1:7000"].(*listenerv3.Listener)
		if a := l.GetAddress().GetSocketAddress(); a.GetAddress() != "10.0.8.1" || a.GetPortValue() != 7000 || len(l.GetFilterChains()) != 1 {
			t.Errorf("got %v", l)
		}
		pass(time.Second)
		f.sees("10.0.8.1:7000")

		// Given up: gone at once.
		server.unsubscribe(lds, inbound+"10.0.8.1:7000")
		server.drain()
		pass(100 * time.Millisecond)
		f.sees()

		// Lost: gone after the grace period.
		server.subscribe(lds, inbound+"10.0.8.1:7000")
		server.drain()
		pass(time.Second)
		f.sees("10.0.8.1:7000")
		server.cancel()
		pass(9 * time.Second)
		f.sees("10.0.8.1:7000")
		pass(2 * time.Second)
		f.sees()
	})
}

func TestRegistrationComesBack(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		log := &strings.Builder{}
		s := embedded(t, xdsserver.Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
		f := follow(t, s, protocol, rcName)
		serve := func() *ads {
			server := connect(t, dial(t, s.Dialer()), protocol, serverNode("s1", "reviews:9080"))
			server.subscribe(lds, inbound+"10.0.8.1:7000")
			server.drain()
			return server
		}
		first := serve()
		pass(time.Second)
		f.sees("10.0.8.1:7000")
		first.cancel()
		pass(5 * time.Second)
		second := serve()
		pass(time.Minute)
		f.sees("10.0.8.1:7000")
		synctest.Wait()
		if gone := "server deregistered"; strings.Contains(log.String(), gone) {
			t.Errorf("the log says that it is gone:\n%s", log)
		}
		second.cancel()
		pass(time.Minute)
		synctest.Wait()
		if gone := `msg="server deregistered" service=reviews.default.svc.cluster.local port=9080 address=10.0.8.1:7000`; !strings.Contains(log.String(), gone) {
			t.Errorf("the log does not have %s:\n%s", gone, log)
		}
	})
}

// A wildcard address becomes the node's own, and metadata says which listener stands for what.
func TestRegistrationAddresses(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		s := embedded(t, xdsserver.Options{})
		reviews, ratings := follow(t, s, protocol, rcName), follow(t, s, protocol, "outbound|80||ratings.other.svc.cluster.local")
		server := connect(t, dial(t, s.Dialer()), protocol, serverNode("s1", "reviews:9080=7000", "ratings.other.svc.cluster.local:80=7001"))
		server.subscribe(lds, inbound+"0.0.0.0:7000", inbound+"[::]:7001", inbound+"10.0.8.1:7002")
		server.drain()
		pass(time.Second)
		reviews.sees("10.0.8.1:7000")
		ratings.sees("10.0.8.1:7001")

		// Without an address of its own, a server in this process is on this machine.
		local := connect(t, dial(t, s.Dialer()), protocol, node("s2", map[string]any{"MESH_SERVICES": "reviews:9080, ratings.other.svc.cluster.local:80"}))
		local.subscribe(lds, inbound+"0.0.0.0:7003")
		local.drain()
		pass(time.Second)
		reviews.sees("10.0.8.1:7000", "127.0.0.1:7003")
		ratings.sees("10.0.8.1:7001", "127.0.0.1:7003")
	})
}

func TestRegistrationPolicy(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		for policy, want := range map[xdsserver.Registration][]string{
			xdsserver.RegistrationDeclared: {"10.0.1.1:9080", "10.0.8.1:7000"},
			xdsserver.RegistrationOff:      {"10.0.1.1:9080"},
		} {
			s := embedded(t, xdsserver.Options{Registration: policy}, reviews("10.0.1.1", ""))
			known, unknown := follow(t, s, protocol, rcName), follow(t, s, protocol, "outbound|80||nobody.default.svc.cluster.local")
			server := connect(t, dial(t, s.Dialer()), protocol, serverNode("s1", "reviews:9080", "nobody:80", "nonsense", "x:y"))
			server.subscribe(lds, inbound+"10.0.8.1:7000")
			server.drain()
			pass(time.Second)
			known.sees(want...)
			unknown.sees()
		}
	})
}

// A registration that is kept back is not said to be one, and it is said when it becomes one.
func TestRegistrationKeptBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		s := embedded(t, xdsserver.Options{Registration: xdsserver.RegistrationDeclared, Logger: slog.New(slog.NewTextHandler(&log, nil))}, reviews("10.0.1.1", ""))
		server := connect(t, dial(t, s.Dialer()), "delta", serverNode("s1", "reviews:9080", "ratings:9080"))
		server.subscribe(lds, inbound+"10.0.8.1:7000")
		server.drain()
		const kept, admitted = `msg="registration kept back" service=ratings.default.svc.cluster.local`, `msg="registration not kept back any more" service=ratings.`
		if got := log.String(); strings.Count(got, "server registered") != 1 || strings.Count(got, kept) != 1 || strings.Contains(got, admitted) {
			t.Error(got)
		}
		var dump struct {
			Registrations []struct{ Host, Service, KeptBack string }
		}
		get(t, s, "/debug/config", &dump)
		if got, want := fmt.Sprint(dump.Registrations), "[{ratings ratings.default.svc.cluster.local the configuration declares no service ratings.default.svc.cluster.local}"+
			" {reviews reviews.default.svc.cluster.local }]"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		apply(t, s, reviews("10.0.1.1", ""), strings.ReplaceAll(reviews("10.0.3.1", ""), "reviews", "ratings"))
		if got := log.String(); strings.Count(got, kept) != 1 || strings.Count(got, admitted) != 1 {
			t.Error(got)
		}
	})
}

// Registrations survive a restart with a state directory: clients that come back have nothing to be told, and a server
// that does not come back is gone after a while.
func TestRestartWithState(t *testing.T) {
	dir := t.TempDir()
	bothProtocols(t, func(t *testing.T, protocol string) {
		dir := dir + "/" + protocol
		s := embedded(t, xdsserver.Options{StateDir: dir})
		f := follow(t, s, protocol, rcName)
		var servers []*ads
		for i := range 2 {
			server := connect(t, dial(t, s.Dialer()), protocol, serverNode(fmt.Sprint("s", i), "reviews:9080"))
			server.subscribe(lds, fmt.Sprintf("%s10.0.8.1:700%d", inbound, i))
			server.drain()
			servers = append(servers, server)
		}
		pass(time.Second)
		f.sees("10.0.8.1:7000", "10.0.8.1:7001")
		must(t, s.Close())

		s = embedded(t, xdsserver.Options{StateDir: dir})
		f = follow(t, s, protocol, rcName)
		f.sees("10.0.8.1:7000", "10.0.8.1:7001")
		server := connect(t, dial(t, s.Dialer()), protocol, serverNode("s0", "reviews:9080"))
		server.subscribe(lds, inbound+"10.0.8.1:7000")
		server.drain()
		pass(29 * time.Second)
		f.sees("10.0.8.1:7000", "10.0.8.1:7001")
		pass(2 * time.Second)
		f.sees("10.0.8.1:7000")
		_ = servers
	})
}

// Without a state directory, a client that comes back is told of nothing that may only be missing because its server
// has not come back yet.
func TestRestartWithoutState(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		s := embedded(t, xdsserver.Options{}, strings.ReplaceAll(reviews("10.0.1.1", ""), "reviews", "ratings"))
		const declared = "outbound|9080||ratings.default.svc.cluster.local"
		back := connect(t, dial(t, s.Dialer()), protocol, grpcNode())
		for _, r := range []struct{ typeURL, name string }{{lds, "reviews:9080"}, {rds, rcName}, {cds, rcName}, {eds, rcName}, {eds, declared}} {
			if protocol == "delta" {
				back.request(r.typeURL, "", "", nil, []string{r.name}, nil, map[string]string{r.name: "1"})
			} else {
				back.request(r.typeURL, "", "1", nil, []string{r.name}, nil, nil)
			}
		}
		fresh := follow(t, s, protocol, rcName)
		fresh.expect()                  // nor is one that is new, for a moment
		back.expect("EDS +" + declared) // what the configuration declares does not wait
		server := connect(t, dial(t, s.Dialer()), protocol, serverNode("s1", "reviews:9080"))
		server.subscribe(lds, inbound+"10.0.8.1:7000")
		server.drain()
		pass(20 * time.Second)
		fresh.sees("10.0.8.1:7000")
		// The service is there again: listener, routes and cluster are as they should be. Its endpoints may not be complete.
		back.expect("CDS +"+rcName, "LDS +reviews:9080", "RDS +"+rcName)
		pass(11 * time.Second)
		back.expect("EDS +" + rcName)
	})
}

// Without a state directory, a new client waits a few seconds for servers that may not have come back yet: until the
// first of them has, or else is told that there is none.
func TestRestartWithNewClients(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		s := embedded(t, xdsserver.Options{OutboundPolicy: xdsserver.RegistryOnly}, strings.ReplaceAll(reviews("10.0.1.1", ""), "reviews", "ratings"))
		open := func(names ...string) *ads {
			c := connect(t, dial(t, s.Dialer()), protocol, grpcNode())
			for i := 0; i < len(names); i += 2 {
				c.subscribe(names[i], names[i+1])
			}
			return c
		}
		listener := open(lds, "reviews:9080")
		listener.expect()
		endpoints := open(eds, rcName)
		endpoints.expect()
		never := open(lds, "nobody:80")
		never.expect()
		open(lds, "ratings:9080").expect("LDS +ratings:9080")
		pass(4 * time.Second)
		server := connect(t, dial(t, s.Dialer()), protocol, serverNode("s1", "reviews:9080"))
		server.subscribe(lds, inbound+"10.0.8.1:7000")
		server.drain()
		pass(500 * time.Millisecond)
		listener.expect("LDS +reviews:9080")
		if got := addresses(endpoints.expect("EDS +" + rcName)[0].resources[rcName]); !slices.Equal(got, []string{"10.0.8.1:7000"}) {
			t.Errorf("got %v", got)
		}
		// What was told is told again when it changes: the server gives its place up.
		server.unsubscribe(lds, inbound+"10.0.8.1:7000")
		synctest.Wait()
		if got := addresses(endpoints.got()[0].resources[rcName]); len(got) > 0 {
			t.Errorf("got %v", got)
		}
		never.expect()
		pass(time.Second)
		gone := "LDS -nobody:80"
		if protocol == "sotw" {
			gone = "LDS +nobody:80" // one without routes
		}
		never.expect(gone)
		late := open(lds, "nobody:80")
		late.expect(gone)
	})
}

// Where servers register for declared services only, nobody waits for others.
func TestRestartWithNewClientsOfTheDeclared(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		s := embedded(t, xdsserver.Options{OutboundPolicy: xdsserver.RegistryOnly, Registration: xdsserver.RegistrationDeclared}, reviews("10.0.1.1", ""))
		c := connect(t, dial(t, s.Dialer()), protocol, grpcNode())
		c.subscribe(lds, "nobody:80")
		if protocol == "sotw" {
			c.expect("LDS +nobody:80") // without routes
		} else {
			c.expect("LDS -nobody:80")
		}
	})
}

// A server that does not accept its listener does not serve, and is not registered until it accepts one; then the last
// good one counts (gRFC A36).
func TestRegistrationNeedsAnAcceptedListener(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		var log strings.Builder
		s := embedded(t, xdsserver.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}, reviews("10.0.1.1", ""))
		f := follow(t, s, protocol, rcName)
		const name = inbound + "10.0.8.1:7000"
		stream := func() *ads {
			n := serverNode("s1", "reviews:9080")
			n.UserAgentName = "meshframe" // its listeners change with the policy
			return connect(t, dial(t, s.Dialer()), protocol, n)
		}
		open := func() *ads {
			server := stream()
			server.subscribe(lds, name)
			return server
		}
		limit := func(n int) { // another version of the listener
			apply(t, s, fmt.Sprintf("apiVersion: networking.meshframe.dev/v1alpha1\nkind: MeshPolicy\nmetadata: {name: reviews}\n"+
				"spec: {host: reviews, maxConcurrentRequests: %d}\n", n), reviews("10.0.1.1", ""))
			pass(time.Second)
		}
		receive := func(server *ads) message {
			list := server.got()
			if len(list) != 1 || list[0].resources[name] == nil {
				t.Fatalf("got %v, want the listener", list)
			}
			return list[0]
		}
		server := open()
		first := receive(server)
		pass(time.Second)
		f.sees("10.0.1.1:9080") // it has not said anything yet
		server.nack(first, "cannot be read: "+name+": unknown field")
		pass(time.Second)
		f.sees("10.0.1.1:9080")
		if text := log.String(); strings.Count(text, "not registered") != 1 || !strings.Contains(text, "10.0.8.1:7000") || !strings.Contains(text, "unknown field") {
			t.Errorf("the log:\n%s", text)
		}
		limit(1)
		second := receive(server)
		server.nack(second, "cannot be read")
		pass(time.Second)
		f.sees("10.0.1.1:9080")
		limit(2)
		third := receive(server)
		server.ack(third)
		pass(time.Second)
		f.sees("10.0.1.1:9080", "10.0.8.1:7000")
		limit(3)
		fourth := receive(server)
		server.nack(fourth, "cannot be read")
		pass(time.Minute)
		f.sees("10.0.1.1:9080", "10.0.8.1:7000")

		// Nor is it forgotten that it serves when it comes back on another stream.
		server.cancel()
		pass(time.Second)
		back := stream()
		if protocol == "sotw" {
			back.request(lds, "", third.version, nil, []string{name}, nil, nil)
		} else {
			back.request(lds, "", "", nil, []string{name}, nil, map[string]string{name: third.version})
		}
		back.nack(receive(back), "cannot be read")
		pass(time.Minute)
		f.sees("10.0.1.1:9080", "10.0.8.1:7000")

		// A new process has served nothing.
		back.unsubscribe(lds, name)
		synctest.Wait()
		fresh := open()
		fresh.nack(receive(fresh), "cannot be read")
		pass(time.Minute)
		f.sees("10.0.1.1:9080")
	})
}

// What a server that comes back had does not speak for a listener that it begins with later, or again.
func TestRegistrationOfALaterListener(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		s := embedded(t, xdsserver.Options{})
		f := follow(t, s, protocol, rcName)
		const first, later = inbound + "10.0.8.1:7000", inbound + "10.0.8.1:7001"
		server := connect(t, dial(t, s.Dialer()), protocol, serverNode("s1", "reviews:9080"))
		if protocol == "sotw" {
			server.request(lds, "", "1", nil, []string{first}, nil, nil)
		} else {
			server.request(lds, "", "", nil, []string{first}, nil, map[string]string{first: "1"})
		}
		pass(time.Second)
		f.sees("10.0.8.1:7000")
		server.drain()
		server.subscribe(lds, later)
		pass(time.Second)
		f.sees("10.0.8.1:7000") // it has not said anything about the other yet
		server.drain()
		pass(time.Second)
		f.sees("10.0.8.1:7000", "10.0.8.1:7001")

		server.unsubscribe(lds, first, later)
		pass(time.Second)
		server.drain()
		f.sees()
		server.subscribe(lds, first)
		pass(time.Second)
		f.sees()
		server.drain()
		pass(time.Second)
		f.sees("10.0.8.1:7000")
	})
}

// Of several listeners in one response those that a refusal names are refused.
func TestRegistrationOfSeveralListeners(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		s := embedded(t, xdsserver.Options{})
		f := follow(t, s, protocol, rcName)
		server := connect(t, dial(t, s.Dialer()), protocol, serverNode("s1", "reviews:9080"))
		server.subscribe(lds, inbound+"10.0.8.1:70", inbound+"10.0.8.1:7000")
		list := server.got()
		if len(list) != 1 || len(list[0].resources) != 2 {
			t.Fatalf("got %v", list)
		}
		server.nack(list[0], "listener "+inbound+"10.0.8.1:7000: cannot be read")
		pass(time.Second)
		f.sees("10.0.8.1:70")
	})
}

// The log does not fill with a server that comes and goes.
func TestRegistrationFlaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		s := embedded(t, xdsserver.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		server := connect(t, dial(t, s.Dialer()), "delta", serverNode("s1", "reviews:9080"))
		flap := func() {
			for range 100 {
				server.subscribe(lds, inbound+"10.0.8.1:7000")
				server.drain()
				server.unsubscribe(lds, inbound+"10.0.8.1:7000")
				server.drain()
			}
		}
		flap()
		if n := strings.Count(log.String(), "registered"); n != 10 {
			t.Errorf("%d lines about one server", n)
		}
		if !strings.Contains(log.String(), "not logged") {
			t.Error("the log does not say that there is more")
		}
		pass(2 * time.Minute)
		flap()
		if n := strings.Count(log.String(), "registered"); n != 20 {
			t.Errorf("%d lines about one server", n)
		}
	})
}
