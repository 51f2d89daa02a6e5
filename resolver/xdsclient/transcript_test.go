package xdsclient_test

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/meshframe/meshframe/resolver/xdsclient"
)

var rewrite = flag.Bool("rewrite", false, "write what happened into the transcripts")

// TestTranscripts plays the conversations in testdata. A line that starts with
// "> " tells the client, the server or the clock what to do; the lines below it
// say what came of it: what watchers were told, then what the server received,
// each with the time since the start. "go test -run Transcripts -rewrite"
// writes them anew.
//
//	> client delta|sotw|auto [no-delta] [no-sotw] [greets] [strict] [ignore-deletion] [down] [servers=N] [cache]
//	> restart                     the client is closed, and another one made with the same store
//	> watch WATCHER cluster|endpoints NAME
//	> cancel WATCHER
//	> hold WATCHER                the watcher does not call done any more
//	> done WATCHER                it calls what it owes, and does so again from now on
//	> respond TYPE VERSION NONCE RESOURCE...
//	      NAME=TEXT      a resource; TEXT "bad…" is refused, "part…" half refused
//	      NAME~TEXT      the same in a wrapper that gives its name (sotw)
//	      NAME=~OTHER    named NAME, but called OTHER inside (delta)
//	      NAME=          without a body
//	      -NAME          removed
//	      !NAME=CODE     a resource error
//	      ?              bytes that are no resource
//	> wait DURATION
//	> break [CODE]                the server ends the stream
//	> mute                        its connection breaks without a word
//	> down [CAUSE] / > up         it takes no connections / it does again
//	> delta on|off                it implements delta, or does not
//	> status
//	> stored                      what is in the store
//	> store ok|broken             it works, or does not
//
// What is done to a server is done to the first, or after a number to another:
// "> 2 down".
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got []byte
			synctest.Test(t, func(t *testing.T) { got = play(t, want) })
			if *rewrite {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", file, diff)
			}
		})
	}
}

// play runs a transcript and returns it with what happened.
func play(t *testing.T, script []byte) []byte {
	t.Helper()
	p := &player{t: t, start: time.Now(), cancels: map[string]func(){}, watchers: map[string]*recorder{}, serve: map[string][]string{}}
	defer p.close()
	var out bytes.Buffer
	lines := bufio.NewScanner(bytes.NewReader(script))
	skip := false
	for lines.Scan() {
		text := lines.Text()
		switch {
		case strings.HasPrefix(text, "> "):
			fmt.Fprintln(&out, text)
			p.do(strings.Fields(text[2:]))
			out.WriteString(p.take())
			skip = true
		case text == "" || strings.HasPrefix(text, "#"):
			fmt.Fprintln(&out, text)
			skip = false
		case !skip:
			t.Fatalf("result %q without a command", text)
		}
	}
	return out.Bytes()
}

type player struct {
	t        *testing.T
	start    time.Time
	client   *xdsclient.Client
	servers  []*fakeServer
	server   *fakeServer // the one that is meant
	cfg      xdsclient.Config
	store    *memoryStore // nil: none
	types    map[string]*xdsclient.ResourceType[string]
	cancels  map[string]func()
	watchers map[string]*recorder

	// What happened since the last take, to watchers and, by its name, to each
	// server.
	mu    sync.Mutex
	heard []string
	serve map[string][]string
}

func (p *player) close() {
	if p.client != nil {
		if err := p.client.Close(); err != nil {
			p.t.Errorf("Close: %v", err)
		}
		for _, s := range p.servers {
			s.stop()
		}
	}
}

func (p *player) stamp(line string) string {
	return fmt.Sprintf("  %6.1fs %s", time.Since(p.start).Seconds(), line)
}

func (p *player) told(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = append(p.heard, p.stamp(line))
}

// receiver returns what a server calls with each line.
func (p *player) receiver(name string) func(line string) {
	return func(line string) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.serve[name] = append(p.serve[name], p.stamp(name+": "+line))
	}
}

// take returns what happened and forgets it.
func (p *player) take() string {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	all := p.heard
	for _, name := range slices.Sorted(maps.Keys(p.serve)) {
		all = append(all, p.serve[name]...)
	}
	for _, l := range all {
		fmt.Fprintln(&b, strings.ReplaceAll(l, "\u00a0", " "))
	}
	p.heard = nil
	clear(p.serve)
	return b.String()
}

func (p *player) do(args []string) {
	if n, err := strconv.Atoi(args[0]); err == nil {
		first := p.server
		p.server, args = p.servers[n-1], args[1:]
		defer func() { p.server = first }()
	}
	switch cmd, args := args[0], args[1:]; cmd {
	case "client":
		p.newClient(args)
	case "restart":
		p.client.Close()
		p.connect()
	case "stored":
		p.stored()
	case "store":
		p.store.setBroken(args[0] == "broken")
	case "watch":
		r := &recorder{name: args[0], log: p.told}
		p.watchers[args[0]] = r
		p.cancels[args[0]] = xdsclient.Watch(p.client, p.types[args[1]], args[2], r)
	case "cancel":
		p.cancels[args[0]]()
	case "hold":
		p.watchers[args[0]].hold = true
	case "done":
		p.watchers[args[0]].release()
	case "respond":
		p.respond(args[0], args[1], args[2], args[3:])
	case "wait":
		d, err := time.ParseDuration(args[0])
		if err != nil {
			p.t.Fatal(err)
		}
		elapse(d)
	case "break":
		var err error
		if len(args) > 0 {
			err = status.Error(code(p.t, args[0]), "told to")
		}
		p.server.current().end <- err
	case "mute":
		p.server.mute()
	case "down":
		p.server.setDown(strings.Join(append(args, "connection refused")[:max(1, len(args))], " "))
	case "up":
		p.server.setDown("")
	case "delta":
		p.server.setNoDelta(args[0] == "off")
	case "status":
		p.status()
	default:
		p.t.Fatalf("unknown command %q", cmd)
	}
}

func (p *player) newClient(args []string) {
	p.types = map[string]*xdsclient.ResourceType[string]{"cluster": clusterType(), "endpoints": endpointType()}
	p.cfg = xdsclient.Config{
		Node:     &corev3.Node{Id: "me"},
		Protocol: map[string]xdsclient.Protocol{"auto": xdsclient.Auto, "delta": xdsclient.Delta, "sotw": xdsclient.StateOfTheWorld}[args[0]],
		Backoff:  backoff.Config{BaseDelay: time.Second, Multiplier: 1.6, MaxDelay: 120 * time.Second},
	}
	servers := 0
	for _, a := range args {
		if n, ok := strings.CutPrefix(a, "servers="); ok {
			servers, _ = strconv.Atoi(n)
		}
	}
	for i := range max(1, servers) {
		name := "server"
		if servers > 0 {
			name = fmt.Sprint("server ", i+1)
		}
		var opts []grpc.ServerOption
		if !slices.Contains(args, "strict") { // else pings may come once in 5 minutes, as is gRPC's default
			opts = append(opts, grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second}))
		}
		f := newFakeServer(p.receiver(name), opts...)
		f.uri, f.closes = fmt.Sprint("fake:", i+1), servers > 0
		f.setNoDelta(slices.Contains(args, "no-delta"))
		f.greets = slices.Contains(args, "greets")
		f.noSotW = slices.Contains(args, "no-sotw")
		if slices.Contains(args, "down") {
			f.setDown("connection refused")
		}
		s := f.server()
		s.IgnoreResourceDeletion = slices.Contains(args, "ignore-deletion")
		p.servers, p.cfg.Servers = append(p.servers, f), append(p.cfg.Servers, s)
	}
	p.server = p.servers[0]
	if slices.Contains(args, "cache") {
		p.store = &memoryStore{saved: map[xdsclient.Key]xdsclient.Saved{}}
		p.cfg.Cache = p.store
	}
	p.connect()
}

// connect makes the client.
func (p *player) connect() {
	var err error
	if p.client, err = xdsclient.New(p.cfg); err != nil {
		p.t.Fatal(err)
	}
}

// stored prints what is in the store.
func (p *player) stored() {
	list, _ := p.store.Load()
	for _, s := range list {
		p.told(fmt.Sprintf("stored %s %s version=%s server=%s", s.TypeURL[strings.LastIndex(s.TypeURL, ".")+1:], s.Name, s.Version, s.Server))
	}
}

// elapse lets time go by, which must be that of a bubble.
func elapse(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func code(t *testing.T, name string) codes.Code {
	t.Helper()
	var c codes.Code
	if err := c.UnmarshalJSON([]byte(strconv.Quote(name))); err != nil {
		t.Fatal(err)
	}
	return c
}

// respond has the server send a response.
func (p *player) respond(typ, version, nonce string, resources []string) {
	d := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: p.typeURL(typ), SystemVersionInfo: version, Nonce: nonce}
	for _, r := range resources {
		p.add(d, typ, version, r)
	}
	s := p.server.current()
	if s == nil {
		p.t.Fatalf("%s has no stream to respond on", p.server.uri)
	}
	var err error
	if s.delta != nil {
		err = s.delta.Send(d)
	} else {
		m := &discoveryv3.DiscoveryResponse{TypeUrl: d.GetTypeUrl(), VersionInfo: version, Nonce: nonce, ResourceErrors: d.GetResourceErrors()}
		for i, r := range d.GetResources() {
			if strings.Contains(resources[i], "~") {
				m.Resources = append(m.Resources, pack(r))
			} else {
				m.Resources = append(m.Resources, r.GetResource())
			}
		}
		err = s.sotw.Send(m)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *player) typeURL(typ string) string {
	if t := p.types[typ]; t != nil {
		return t.TypeURL
	}
	return "type.googleapis.com/" + typ
}

// add adds one resource to a response.
func (p *player) add(d *discoveryv3.DeltaDiscoveryResponse, typ, version, r string) {
	name, text, _ := strings.Cut(strings.Replace(r, "~", "=", 1), "=")
	name, text = strings.TrimSuffix(name, "="), strings.TrimPrefix(text, "=")
	inside := name
	if strings.Contains(r, "=~") {
		inside, text = text, "x"
	}
	res := &discoveryv3.Resource{Name: name, Version: version}
	switch {
	case r[0] == '-':
		d.RemovedResources = append(d.RemovedResources, r[1:])
		return
	case r[0] == '!':
		d.ResourceErrors = append(d.ResourceErrors, &discoveryv3.ResourceError{
			ResourceName: &discoveryv3.ResourceName{Name: name[1:]},
			ErrorDetail:  status.New(code(p.t, text), "told to").Proto(),
		})
		return
	case r == "?":
		res.Name, res.Resource = "", &anypb.Any{TypeUrl: d.GetTypeUrl(), Value: []byte{0xff}}
	case text == "":
	default:
		var m proto.Message = cluster(inside, text)
		if typ == "endpoints" {
			m = endpoints(inside, text)
		}
		res.Resource = pack(m)
	}
	d.Resources = append(d.Resources, res)
}

// status prints Client.Status.
func (p *player) status() {
	st := p.client.Status()
	for _, s := range st.Servers {
		line := fmt.Sprintf("%s %v connected=%v failures=%d error=%v", s.URI, s.Protocol, s.Connected, s.Failures, s.LastError)
		if len(p.servers) > 1 {
			line += fmt.Sprintf(" in-charge=%v", s.InCharge)
		}
		p.told(line)
		for _, ty := range s.Types {
			p.told(fmt.Sprintf("  %s version=%q nonce=%q nacks=%d %s", ty.Name, ty.Version, ty.Nonce, ty.LastNACK.Count, ty.LastNACK.Detail))
		}
	}
	for _, r := range st.Resources {
		line := fmt.Sprintf("  %s %v version=%q watchers=%d error=%v", r.Name, r.State, r.Version, r.Watchers, r.Err)
		if len(p.servers) > 1 {
			line += fmt.Sprintf(" server=%s", r.Server)
		}
		if p.store != nil {
			line += fmt.Sprintf(" stale=%v", r.Stale)
			if !r.Accepted.IsZero() {
				line += fmt.Sprintf(" accepted=%.1fs", r.Accepted.Sub(p.start).Seconds())
			}
		}
		p.told(line)
	}
	if c := st.Cache; c != nil {
		p.told(fmt.Sprintf("store: resources=%d bytes=%v pending=%d saved=%v error=%v", c.Resources, c.Bytes > 0, c.Pending, !c.LastSave.IsZero(), c.LastError))
	}
}
