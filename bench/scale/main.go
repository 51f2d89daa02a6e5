// Command scale puts a mesh of some size on cmd/xdsserver, as a process of its own
// and over loopback: it starts it, lets all clients in at once, changes a
// VirtualService, has an endpoint come and go, leaves some clients stuck, kills the
// process and starts it again under its clients. For each it prints what it took:
// time, processor time and memory of the control plane, and when changes arrived.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"

	"github.com/meshframe/meshframe/bench/internal/proc"
)

var (
	services = flag.Int("services", 2000, "services in the configuration")
	clients  = flag.Int("clients", 200, "clients, half of them incremental and half state-of-the-world")
	changes  = flag.Int("changes", 20, "changes of each kind, one after the other")
	follows  = flag.Int("follows", 20, "services that a client follows; all follow the first")
	flapFor  = flag.Duration("flap", 5*time.Second, "how long an endpoint flaps")
)

func main() {
	log.SetFlags(0)
	flag.Parse()
	dir, err := os.MkdirTemp("", "scale")
	if err != nil {
		log.Fatal(err)
	}
	err = run(dir, os.Stdout)
	if err := os.RemoveAll(dir); err != nil {
		log.Print(err)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// bench is one run.
type bench struct {
	dir   string
	out   io.Writer
	plane *plane
	fleet *fleet
}

func run(dir string, out io.Writer) error {
	binary := filepath.Join(dir, "xdsserver")
	build := exec.Command("go", "build", "-o", binary, "./cmd/xdsserver")
	build.Dir, build.Stderr = "..", os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("building xdsserver (run from the folder bench): %w", err)
	}
	if err := writeMesh(filepath.Join(dir, "config"), *services); err != nil {
		return err
	}
	p, err := newPlane(binary, dir)
	if err != nil {
		return err
	}
	defer p.kill()
	b := &bench{dir: dir, out: out, plane: p, fleet: newFleet(p.address, *clients, *follows, *services)}
	defer b.fleet.close()
	fmt.Fprintf(out, "%d services, %d clients that follow %d of them each\n\n", *services, *clients, *follows)
	fmt.Fprintf(out, "| what | time | arrival p50 | p99 | server CPU | RSS | peak RSS |\n|---|---:|---:|---:|---:|---:|---:|\n")
	for _, phase := range []struct {
		name string
		run  func() (arrivals, error)
	}{
		{"start, until it is ready", func() (arrivals, error) { return nil, p.start() }},
		{"all clients come at once, until each has everything", func() (arrivals, error) { return nil, b.fleet.begin() }},
		{fmt.Sprintf("%d changes of a VirtualService that all follow", *changes), func() (arrivals, error) { return b.virtualServices(0) }},
		{fmt.Sprintf("%d changes of one that few follow", *changes), func() (arrivals, error) { return b.virtualServices(1) }},
		{fmt.Sprintf("an endpoint of the service that all follow comes and goes %d times, one after the other", *changes), b.endpoint},
		{fmt.Sprintf("it flaps for %v, as fast as it can", *flapFor), b.flapping},
		{fmt.Sprintf("%d changes while 20 more clients take nothing", *changes), b.stuck},
		{"the debug pages", b.pages},
		{"all clients reconnect at once, 5 times", b.reconnect},
		{"kill -9 and start, until all are back", b.kill},
		{fmt.Sprintf("%d changes after that", *changes), func() (arrivals, error) { return b.virtualServices(0) }},
	} {
		begin, cpu := time.Now(), p.cpu()
		a, err := phase.run()
		if err != nil {
			return fmt.Errorf("%s: %w", phase.name, err)
		}
		took := time.Since(begin)
		b.row(phase.name, took, a, p.cpu()-cpu)
	}
	fmt.Fprintf(out, "\nlog: %d lines\n", p.logged())
	return nil
}

func (b *bench) row(name string, took time.Duration, a arrivals, cpu time.Duration) {
	p50, p99 := "", ""
	if len(a) > 0 {
		p50, p99 = ms(proc.Quantile(a, 0.5)), ms(proc.Quantile(a, 0.99))
	}
	if cpu < 0 { // another process
		cpu = b.plane.cpu()
	}
	rss, peak := b.plane.memory()
	fmt.Fprintf(b.out, "| %s | %s | %s | %s | %s | %d MiB | %d MiB |\n", name, ms(took), p50, p99, ms(cpu), rss>>20, peak>>20)
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/1e6) }

// virtualServices changes the timeout of a service's VirtualService.
func (b *bench) virtualServices(service int) (arrivals, error) {
	var all arrivals
	for range *changes {
		generation++
		a := b.fleet.expect(resource.RouteType, clusterName(service))
		if err := writeRoute(filepath.Join(b.dir, "config"), service, generation); err != nil {
			return nil, err
		}
		if err := a.wait(); err != nil {
			return nil, err
		}
		all = append(all, a.list...)
	}
	return all, nil
}

var generation int

// endpoint registers a server and withdraws it, again and again.
func (b *bench) endpoint() (arrivals, error) {
	s, err := newServer(b.plane.address)
	if err != nil {
		return nil, err
	}
	defer s.close()
	var all arrivals
	for range *changes {
		for _, change := range []func() error{s.register, s.withdraw} {
			a := b.fleet.expect(resource.EndpointType, clusterName(0))
			if err := change(); err != nil {
				return nil, err
			}
			if err := a.wait(); err != nil {
				return nil, err
			}
			all = append(all, a.list...)
		}
	}
	return all, nil
}

func (b *bench) flapping() (arrivals, error) {
	s, err := newServer(b.plane.address)
	if err != nil {
		return nil, err
	}
	defer s.close()
	before, lines := b.fleet.messages.Load(), b.plane.logged()
	n := 0
	for end := time.Now().Add(*flapFor); time.Now().Before(end); n++ {
		if err := errors.Join(s.register(), s.withdraw()); err != nil {
			return nil, err
		}
	}
	b.fleet.settle()
	fmt.Fprintf(os.Stderr, "it came and went %d times: %d messages to each client, %d lines in the log\n", n,
		(b.fleet.messages.Load()-before)/int64(*clients), b.plane.logged()-lines)
	return nil, nil
}

// stuck makes changes while some clients do not read.
func (b *bench) stuck() (arrivals, error) {
	f := newFleet(b.plane.address, 20, *follows, *services)
	defer f.close()
	if err := f.begin(); err != nil {
		return nil, err
	}
	f.halt()
	return b.virtualServices(0)
}

func (b *bench) pages() (arrivals, error) {
	for _, page := range []string{"clients", "config", "support", "support?client=grpc-go"} {
		begin := time.Now()
		r, err := http.Get("http://" + b.plane.admin + "/debug/" + page)
		if err != nil {
			return nil, err
		}
		n, err := io.Copy(io.Discard, r.Body)
		r.Body.Close()
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(os.Stderr, "/debug/%s: %d KiB in %s\n", page, n>>10, ms(time.Since(begin)))
	}
	return nil, nil
}

func (b *bench) reconnect() (arrivals, error) {
	for range 5 {
		b.fleet.drop()
		if err := b.fleet.back(); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (b *bench) kill() (arrivals, error) {
	b.plane.kill()
	b.fleet.gone()
	if err := b.plane.start(); err != nil {
		return nil, err
	}
	return nil, b.fleet.back()
}

// clusterName is what a service's routes, cluster and endpoints are called.
func clusterName(service int) string { return "outbound|9080||" + hostName(service) }

func hostName(service int) string { return fmt.Sprintf("svc-%04d.mesh", service) }

// writeMesh writes services with five endpoints in two subsets, and a rule and routes for each.
func writeMesh(dir string, services int) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	const perFile = 100
	for first := 0; first < services; first += perFile {
		var text strings.Builder
		for i := first; i < min(first+perFile, services); i++ {
			fmt.Fprintf(&text, "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: svc-%04d}\n"+
				"spec:\n  hosts: [%s]\n  location: MESH_INTERNAL\n  resolution: STATIC\n  ports: [{number: 9080, name: grpc, protocol: GRPC}]\n  endpoints:\n", i, hostName(i))
			for e := range 5 {
				fmt.Fprintf(&text, "  - {address: 10.%d.%d.%d, labels: {version: v%d}}\n", i/250, i%250, e+1, 1+e%2)
			}
			fmt.Fprintf(&text, "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: svc-%04d}\n"+
				"spec: {host: %s, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}\n", i, hostName(i))
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("services-%04d.yaml", first)), []byte(text.String()), 0o600); err != nil {
			return err
		}
	}
	for i := range services {
		if err := writeRoute(dir, i, 0); err != nil {
			return err
		}
	}
	return nil
}

// writeRoute writes the VirtualService of a service, in a file of its own, as an editor or a sync would: at once.
func writeRoute(dir string, i, generation int) error {
	text := fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: svc-%04d}\nspec:\n  hosts: [%s]\n  http:\n"+
		"  - match: [{headers: {end-user: {exact: jason}}}]\n    route: [{destination: {host: %s, subset: v2}}]\n"+
		"  - timeout: %dms\n    route:\n    - {destination: {host: %s, subset: v1}, weight: 90}\n    - {destination: {host: %s, subset: v2}, weight: 10}\n",
		i, hostName(i), hostName(i), 1000+generation, hostName(i), hostName(i))
	name := filepath.Join(dir, fmt.Sprintf("route-%04d.yaml", i))
	part := filepath.Join(filepath.Dir(dir), "part")
	if err := os.WriteFile(part, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(part, name)
}
