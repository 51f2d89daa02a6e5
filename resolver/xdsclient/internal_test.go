package xdsclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/anypb"
)

// detached returns a client that has an open stream but no connection: the test
// does what its goroutines would.
func detached(tb testing.TB, p Protocol) (*Client, *stream) {
	tb.Helper()
	c := detachedFrom(tb, 1)
	return c, c.servers[0].begin(p)
}

// detachedFrom is detached with several servers, and no stream yet.
func detachedFrom(tb testing.TB, servers int) *Client {
	tb.Helper()
	nowhere := Server{URI: "nowhere", Credentials: insecure.NewCredentials(), Dialer: func(context.Context, string) (net.Conn, error) {
		return nil, errors.New("not to be dialed")
	}}
	cfg, err := Config{Servers: slices.Repeat([]Server{nowhere}, servers), WatchExpiry: -1}.withDefaults()
	if err != nil {
		tb.Fatal(err)
	}
	c := &Client{cfg: cfg, log: slog.New(slog.DiscardHandler), types: map[string]*typeEntry{}}
	if err := c.addServers(); err != nil {
		tb.Fatal(err)
	}
	for _, s := range c.servers {
		s.disconnect()
	}
	c.calls = newCalls(func() {})
	go c.calls.run()
	return c
}

// TestReplyQueue: a server that sends but never reads makes no queue grow.
func TestReplyQueue(t *testing.T) {
	c, st := detached(t, Delta)
	defer c.calls.stop()
	Watch(c, fuzzType(fuzzFull), "a", fuzzWatcher{})
	c.flush()
	st.plan(time.Now())
	for range 1000 {
		<-st.handle(&response{typeURL: fuzzFull, nonce: "n"}).free
	}
	if n := len(st.talks[fuzzFull].replies); n != maxReplies {
		t.Errorf("%d replies wait, want %d", n, maxReplies)
	}
}

// TestDetail: the text of a NACK is bounded, valid UTF-8, and the same whatever
// the order of the resources.
func TestDetail(t *testing.T) {
	a := detail([]refusal{{"b", "two"}, {"a", "one\xff"}})
	b := detail([]refusal{{"a", "one\xff"}, {"b", "two"}})
	if want := "a: one\uFFFD; b: two"; a != want || b != want {
		t.Errorf("detail = %q and %q, want %q", a, b, want)
	}
	var many []refusal
	for range 1000 {
		many = append(many, refusal{"name", strings.Repeat("x", 1000)})
	}
	if d := detail(many); len(d) > maxDetail+100 || !strings.HasSuffix(d, "; and 984 more") {
		t.Errorf("detail of many: %d bytes, ends %q", len(d), d[len(d)-20:])
	}
	for _, name := range []string{"nam", "name"} {
		if d := detail([]refusal{{name, strings.Repeat("é", maxDetail)}}); len(d) > maxDetail+2 || !utf8.ValidString(d) {
			t.Errorf("detail of a long one: %d bytes, ends %q", len(d), d[len(d)-2:])
		}
	}
}

// TestDelay: gRPC's connection backoff with a maximum of our own, which with its
// jitter is less than the 30 s for which xdsserver keeps the endpoints of servers
// that it waits for after a start.
func TestDelay(t *testing.T) {
	c, _ := detached(t, Delta)
	defer c.calls.stop()
	for attempt, want := range map[int]time.Duration{0: time.Second, 1: 1600 * time.Millisecond, 20: 20 * time.Second, 2000: 20 * time.Second} {
		c.servers[0].attempt = attempt
		for range 100 {
			if d := c.servers[0].delay(); d < want*8/10 || d > want*12/10 {
				t.Errorf("attempt %d: delay %v, want %v with 20%% jitter", attempt, d, want)
			}
		}
	}
}

// TestChurn: names that come and go before the server hears of them leave
// nothing behind.
func TestChurn(t *testing.T) {
	c, st := detached(t, Delta)
	defer c.calls.stop()
	full := fuzzType(fuzzFull)
	Watch(c, full, "stays", fuzzWatcher{})
	c.flush()
	st.plan(time.Now())
	for i := range 1000 {
		Watch(c, full, fmt.Sprint("n", i), fuzzWatcher{})()
		Watch(c, fuzzType(fuzzPartial), "of a type that was never asked for", fuzzWatcher{})()
	}
	if subs, changed := c.types[fuzzFull].subs, st.talks[fuzzFull].changed; len(subs) != 1 || len(changed) != 0 {
		t.Errorf("%d subscriptions and %d changes are left, want 1 and 0", len(subs), len(changed))
	}
	if n := len(c.types[fuzzPartial].subs); n != 0 {
		t.Errorf("%d subscriptions of the other type are left, want 0", n)
	}
}

// TestEndOfStream: an unsubscription that could not be sent any more needs not
// be sent.
func TestEndOfStream(t *testing.T) {
	c, st := detached(t, Delta)
	defer c.calls.stop()
	cancel := Watch(c, fuzzType(fuzzFull), "a", fuzzWatcher{})
	c.flush()
	st.plan(time.Now())
	cancel()
	if n := len(c.types[fuzzFull].subs); n != 1 {
		t.Fatalf("%d subscriptions before the server was told, want 1", n)
	}
	c.servers[0].end(st)
	if n := len(c.types[fuzzFull].subs); n != 0 {
		t.Errorf("%d subscriptions after the stream, want 0", n)
	}
}

// TestBackoffDefaults: no setting makes attempts follow without a pause.
func TestBackoffDefaults(t *testing.T) {
	d := backoff.Config{BaseDelay: time.Second, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 20 * time.Second}
	mine := backoff.Config{BaseDelay: time.Minute, Multiplier: 2, MaxDelay: time.Hour}
	for _, tt := range []struct{ in, want backoff.Config }{
		{backoff.Config{}, d},
		{mine, mine},
		{backoff.Config{Jitter: 0.5}, backoff.Config{BaseDelay: d.BaseDelay, Multiplier: d.Multiplier, MaxDelay: d.MaxDelay, Jitter: 0.5}},
		{backoff.Config{BaseDelay: -1, Multiplier: 0.5, MaxDelay: -1, Jitter: 1}, d},
	} {
		if got := withDefaultBackoff(tt.in); got != tt.want {
			t.Errorf("%+v becomes %+v, want %+v", tt.in, got, tt.want)
		}
	}
}

// TestHasScheme: which URIs a Dialer gets as written.
func TestHasScheme(t *testing.T) {
	for uri, want := range map[string]bool{
		"127.0.0.1:15010": false, "xds.example:443": false, "in-memory": false, "[::1]:1": false,
		"dns:///xds.example:443": true, "unix:///run/xds": true, "passthrough:///x": true, "nobody:///x": false,
	} {
		if got := hasScheme(uri); got != want {
			t.Errorf("hasScheme(%q) = %v, want %v", uri, got, want)
		}
	}
}

// TestChangesWaitForCallbacks, which may change more, but not for ever.
func TestChangesWaitForCallbacks(t *testing.T) {
	c, st := detached(t, Delta)
	defer c.calls.stop()
	full := fuzzType(fuzzFull)
	Watch(c, full, "a", fuzzWatcher{})
	c.flush()
	st.plan(time.Now())

	running, gate := make(chan struct{}), make(chan struct{})
	Watch(c, full, "", blockingWatcher{running, gate}) // is refused with a callback
	<-running
	Watch(c, full, "b", fuzzWatcher{})
	if batch, _ := st.plan(time.Now()); len(batch) != 0 {
		t.Errorf("while a callback runs, %d requests are due, want none", len(batch))
	}
	c.flush() // as happens between batches of callbacks
	if batch, _ := st.plan(time.Now()); len(batch) != 1 || batch[0].subscribe[0] != "b" {
		t.Errorf("after a batch of callbacks the request is not due: %+v", batch)
	}
	close(gate)
}

type blockingWatcher struct{ running, gate chan struct{} }

func (w blockingWatcher) Update(_ Update[string], done func()) { done() }

func (w blockingWatcher) Missing(_ string, _ error, done func()) { done() }

func (w blockingWatcher) Error(_ string, _ error, done func()) {
	close(w.running)
	<-w.gate
	done()
}

// TestWatchDuringDecode: a subscription that begins while a response is decoded
// is not touched by it, as its resource was passed over.
func TestWatchDuringDecode(t *testing.T) {
	c, st := detached(t, Delta)
	defer c.calls.stop()
	full := fuzzType(fuzzFull)
	inner := full.Decode
	full.Decode = func(name string, body []byte) Decoded[string] {
		Watch(c, full, "b", fuzzWatcher{})
		return inner(name, body)
	}
	Watch(c, full, "a", fuzzWatcher{})
	c.flush()
	st.plan(time.Now())
	<-st.handle(&response{typeURL: fuzzFull, nonce: "n", resources: []received{{name: "b", body: []byte("b=1")}, {name: "a", body: []byte("a=1")}}}).free
	var got []string
	for _, r := range c.Status().Resources {
		got = append(got, r.Name+" "+r.State.String())
	}
	if diff := cmp.Diff([]string{"a accepted", "b requested"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestWire: what the two protocols say in their own words.
func TestWire(t *testing.T) {
	named := func(n string) *discoveryv3.ResourceName { return &discoveryv3.ResourceName{Name: n} }
	body := &anypb.Any{TypeUrl: fuzzFull, Value: []byte("x")}
	wrapped, err := anypb.New(&discoveryv3.Resource{ResourceName: named("a"), Version: "of the wrapper", Resource: body})
	if err != nil {
		t.Fatal(err)
	}
	delta := fromDelta(&discoveryv3.DeltaDiscoveryResponse{
		TypeUrl: fuzzFull, RemovedResources: []string{"b"}, RemovedResourceNames: []*discoveryv3.ResourceName{named("c")},
		Resources: []*discoveryv3.Resource{{ResourceName: named("a"), Version: "2", Resource: body}, {Name: "d", Resource: &anypb.Any{TypeUrl: "other"}}},
	})
	sotw := fromSotW(&discoveryv3.DiscoveryResponse{TypeUrl: fuzzFull, VersionInfo: "7", Resources: []*anypb.Any{wrapped, body}})
	text := func(r *response) (out []string) {
		for _, x := range r.resources {
			out = append(out, fmt.Sprintf("%q version=%q body=%q %v", x.name, x.version, x.body, x.err))
		}
		return append(out, "removed "+strings.Join(r.removed, ","))
	}
	if diff := cmp.Diff([]string{`"a" version="2" body="x" <nil>`, `"d" version="" body="" the resource is a "other" in a response for "type.example/full"`, "removed b,c"}, text(delta)); diff != "" {
		t.Errorf("delta: -want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]string{`"a" version="7" body="x" <nil>`, `"" version="7" body="x" <nil>`, "removed "}, text(sotw)); diff != "" {
		t.Errorf("state-of-the-world: -want +got:\n%s", diff)
	}
}
