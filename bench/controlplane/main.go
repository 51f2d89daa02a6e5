// Command controlplane measures what it costs a control plane to send one
// changed endpoint to those who subscribe to it, and when the last of them has
// it: 1,000 services of 10 endpoints, 200 incremental ADS clients in another
// process, each subscribed to 20 services. What counts is the ratio to
// go-control-plane's LinearCache within one run.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/meshframe/meshframe/bench/internal/proc"
)

// The size of the mesh.
const (
	services      = 1000
	endpoints     = 10
	clients       = 200
	subscriptions = 20 // of a client
)

func main() {
	log.SetFlags(0)
	plane := flag.String("plane", "", "serve this control plane (started by the clients themselves)")
	rounds := flag.Int("rounds", 5, "rounds; each measures every control plane once")
	changes := flag.Int("changes", 100, "changes in a measurement, one after the other")
	flag.Parse()
	if *plane != "" {
		if err := serve(planes[*plane], os.Stdout); err != nil {
			log.Fatal(err)
		}
		return
	}
	proc.Pin(1)
	if err := run(*rounds, *changes, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// names are the control planes in the order of the report; the first is the
// baseline.
var names = []string{"linear", "meshframe"}

// workloads are which service changes: one that about four clients subscribe
// to, or the one that all do.
var workloads = []struct {
	name    string
	service func(i int) int
}{
	{"cold", func(i int) int { return 1 + i*7%(services-1) }},
	{"hot", func(int) int { return 0 }},
}

func run(rounds, changes int, out io.Writer) error {
	var ps []*peer
	for _, name := range names {
		p, err := startPeer(name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		defer p.stop()
		ps = append(ps, p)
	}
	for round := range rounds {
		for i := range ps {
			for w := range workloads {
				if err := ps[(i+round)%len(ps)].measure(w, changes); err != nil {
					return err
				}
			}
		}
		fmt.Fprintf(os.Stderr, "round %d of %d done\n", round+1, rounds)
	}
	report(out, ps)
	return nil
}

// peer is a control plane in a process of its own, with its clients here.
type peer struct {
	name  string
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *json.Decoder
	conns []*grpc.ClientConn
	count map[int]int // subscribers by service
	next  int         // number of the next change
	await atomic.Pointer[arrival]
	seen  atomic.Int64 // messages
	cells [][]cell     // by workload, then round
}

// arrival counts the clients that a change has still to reach.
type arrival struct {
	name string
	left atomic.Int64
	done chan time.Time
}

// cell is one measurement.
type cell struct{ p50, p99, cpu, messages float64 }

func startPeer(name string) (*peer, error) {
	cmd, err := proc.Child(0, "-plane", name)
	if err != nil {
		return nil, err
	}
	p := &peer{name: name, cmd: cmd, count: map[int]int{}, cells: make([][]cell, len(workloads))}
	if p.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p.out = json.NewDecoder(bufio.NewReader(out))
	var addr string
	if err := p.out.Decode(&addr); err != nil {
		return nil, err
	}
	ready := make(chan error, clients)
	for c := range clients {
		cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, err
		}
		p.conns = append(p.conns, cc)
		go p.client(cc, c, p.subscribe(c), ready)
	}
	for range clients {
		if err := <-ready; err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *peer) stop() {
	for _, c := range p.conns {
		c.Close()
	}
	p.in.Close()
	_ = p.cmd.Wait()
}

// subscribe returns the services of a client: the first, which every client
// has, and a share of the others.
func (p *peer) subscribe(client int) []string {
	var out []string
	for j := range subscriptions {
		s := 0
		if j > 0 {
			s = 1 + (client*(subscriptions-1)+j)%(services-1)
		}
		p.count[s]++
		out = append(out, serviceName(s))
	}
	return out
}

// client reads what it is sent, decoding no resource, and acknowledges it.
func (p *peer) client(cc *grpc.ClientConn, id int, names []string, ready chan<- error) {
	st, err := discoveryv3.NewAggregatedDiscoveryServiceClient(cc).DeltaAggregatedResources(context.Background(), grpc.WaitForReady(true))
	if err == nil {
		err = st.Send(&discoveryv3.DeltaDiscoveryRequest{
			Node: &corev3.Node{Id: fmt.Sprintf("client-%d", id)}, TypeUrl: resource.EndpointType, ResourceNamesSubscribe: names,
		})
	}
	for got := 0; err == nil; {
		var m *discoveryv3.DeltaDiscoveryResponse
		if m, err = st.Recv(); err != nil {
			break
		}
		if a := p.await.Load(); a != nil {
			for _, r := range m.GetResources() {
				if r.GetName() == a.name && a.left.Add(-1) == 0 {
					a.done <- time.Now()
				}
			}
		}
		p.seen.Add(1)
		if got < len(names) {
			if got += len(m.GetResources()); got >= len(names) {
				ready <- nil
			}
		}
		err = st.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.EndpointType, ResponseNonce: m.GetNonce()})
	}
	select {
	case ready <- err: // the first client to fail while they start is reported
	default:
	}
}

// measure makes changes one by one, each when the one before has reached
// everyone.
func (p *peer) measure(workload, changes int) error {
	before, err := p.command("cpu")
	if err != nil {
		return err
	}
	messages := p.seen.Load()
	var last []time.Duration
	for range changes {
		service := workloads[workload].service(p.next)
		a := &arrival{name: serviceName(service), done: make(chan time.Time, 1)}
		a.left.Store(int64(p.count[service]))
		p.await.Store(a)
		r, err := p.command(fmt.Sprintf("%d %d", service, p.next))
		if err != nil {
			return err
		}
		select {
		case t := <-a.done:
			last = append(last, t.Sub(time.Unix(0, r.Begin)))
		case <-time.After(10 * time.Second):
			return fmt.Errorf("%s: a change did not reach %d clients", p.name, a.left.Load())
		}
		p.next++
		p.settle()
	}
	after, err := p.command("cpu")
	if err != nil {
		return err
	}
	n := float64(changes)
	p.cells[workload] = append(p.cells[workload], cell{
		p50: float64(proc.Quantile(last, 0.5)) / 1e3, p99: float64(proc.Quantile(last, 0.99)) / 1e3,
		cpu: float64(after.CPU-before.CPU) / 1e3 / n, messages: float64(p.seen.Load()-messages) / n,
	})
	return nil
}

// settle waits until nothing arrives any more, so that acknowledgements count
// but do not disturb the next change.
func (p *peer) settle() {
	for n := int64(-1); n != p.seen.Load(); time.Sleep(10 * time.Millisecond) {
		n = p.seen.Load()
	}
}

func (p *peer) command(line string) (r reply, err error) {
	if _, err := fmt.Fprintln(p.in, line); err != nil {
		return r, fmt.Errorf("%s: %w", p.name, err)
	}
	if err := p.out.Decode(&r); err != nil {
		return r, fmt.Errorf("%s: %w", p.name, err)
	}
	return r, nil
}

func report(out io.Writer, ps []*peer) {
	columns := []struct {
		name  string
		value func(cell) float64
	}{
		{"last client p50 µs", func(c cell) float64 { return c.p50 }},
		{"p99 µs", func(c cell) float64 { return c.p99 }},
		{"server CPU µs/change", func(c cell) float64 { return c.cpu }},
		{"messages/change", func(c cell) float64 { return c.messages }},
	}
	for w, load := range workloads {
		fmt.Fprintf(out, "\n%s: a service with %d subscribers changes (medians of %d rounds; in brackets the ratio to %s)\n\n| control plane |", load.name, ps[0].count[load.service(1)], len(ps[0].cells[w]), names[0])
		for _, c := range columns {
			fmt.Fprintf(out, " %s |", c.name)
		}
		fmt.Fprintf(out, "\n|---|%s\n", strings.Repeat("---:|", len(columns)))
		for _, p := range ps {
			fmt.Fprintf(out, "| %s |", p.name)
			for _, c := range columns {
				var v, ratio []float64
				for round, x := range p.cells[w] {
					v = append(v, c.value(x))
					ratio = append(ratio, c.value(x)/c.value(ps[0].cells[w][round]))
				}
				fmt.Fprintf(out, " %.1f (%.2f) |", proc.Median(v), proc.Median(ratio))
			}
			fmt.Fprintln(out)
		}
	}
}
