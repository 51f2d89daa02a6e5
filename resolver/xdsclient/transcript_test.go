package xdsclient_test

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
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
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
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
//	> client delta|sotw|auto [no-delta] [no-sotw] [ignore-deletion] [down]
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
//	> down [CAUSE] / > up         it takes no connections / it does again
//	> delta on|off                it implements delta, or does not
//	> status
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
	p := &player{t: t, start: time.Now(), cancels: map[string]func(){}, watchers: map[string]*recorder{}}
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
	server   *fakeServer
	types    map[string]*xdsclient.ResourceType[string]
	cancels  map[string]func()
	watchers map[string]*recorder

	mu             sync.Mutex
	client1, serve []string // what happened since the last take
}

func (p *player) close() {
	if p.client != nil {
		if err := p.client.Close(); err != nil {
			p.t.Errorf("Close: %v", err)
		}
		p.server.stop()
	}
}

func (p *player) stamp(line string) string {
	return fmt.Sprintf("  %6.1fs %s", time.Since(p.start).Seconds(), line)
}

func (p *player) told(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.client1 = append(p.client1, p.stamp(line))
}

func (p *player) received(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.serve = append(p.serve, p.stamp("server: "+line))
}

// take returns what happened and forgets it.
func (p *player) take() string {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	for _, l := range append(p.client1, p.serve...) {
		fmt.Fprintln(&b, strings.ReplaceAll(l, "\u00a0", " "))
	}
	p.client1, p.serve = nil, nil
	return b.String()
}

func (p *player) do(args []string) {
	switch cmd, args := args[0], args[1:]; cmd {
	case "client":
		p.newClient(args)
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
	p.server = newFakeServer(p.received)
	p.server.setNoDelta(slices.Contains(args, "no-delta"))
	p.server.noSotW = slices.Contains(args, "no-sotw")
	if slices.Contains(args, "down") {
		p.server.setDown("connection refused")
	}
	s := p.server.server()
	s.IgnoreResourceDeletion = slices.Contains(args, "ignore-deletion")
	var err error
	p.client, err = xdsclient.New(xdsclient.Config{
		Servers:  []xdsclient.Server{s},
		Node:     &corev3.Node{Id: "me"},
		Protocol: map[string]xdsclient.Protocol{"auto": xdsclient.Auto, "delta": xdsclient.Delta, "sotw": xdsclient.StateOfTheWorld}[args[0]],
		Backoff:  backoff.Config{BaseDelay: time.Second, Multiplier: 1.6, MaxDelay: 120 * time.Second},
	})
	if err != nil {
		p.t.Fatal(err)
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
		p.told(fmt.Sprintf("%s %v connected=%v failures=%d error=%v", s.URI, s.Protocol, s.Connected, s.Failures, s.LastError))
		for _, ty := range s.Types {
			p.told(fmt.Sprintf("  %s version=%q nonce=%q nacks=%d %s", ty.Name, ty.Version, ty.Nonce, ty.LastNACK.Count, ty.LastNACK.Detail))
		}
	}
	for _, r := range st.Resources {
		p.told(fmt.Sprintf("  %s %v version=%q watchers=%d error=%v", r.Name, r.State, r.Version, r.Watchers, r.Err))
	}
}
