// Command rpc measures gRPC clients side by side: unary calls with a 128 B
// payload over loopback to three servers in another process. All contenders run
// in this process in turn, round after round; what counts is each one's ratio to
// plain round_robin within a round.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/meshframe/meshframe/bench/internal/proc"
)

// options are the command line.
type options struct {
	server  bool
	rounds  int
	dur     time.Duration
	workers int
	calls   int
	only    string
	list    bool
}

func main() {
	log.SetFlags(0)
	var o options
	flag.BoolVar(&o.server, "server", false, "run the servers (started by the client itself)")
	flag.IntVar(&o.rounds, "rounds", 40, "rounds; each runs every contender once")
	flag.DurationVar(&o.dur, "dur", 200*time.Millisecond, "time under load in a round; half of it one call at a time comes before")
	flag.IntVar(&o.workers, "c", 64, "goroutines that call at once under load")
	flag.IntVar(&o.calls, "calls", 0, "have each contender make so many calls and end, unpinned and unmeasured: for programs that count instructions")
	flag.StringVar(&o.only, "only", "", "contenders to run, separated by commas; the baseline always runs, but with -calls")
	flag.BoolVar(&o.list, "list", false, "list the contenders")
	flag.Parse()
	switch {
	case o.list:
		for _, c := range contenders {
			fmt.Printf("%-24s %s\n", c.name, c.what)
		}
	case o.server:
		if err := serve(os.Stdout, os.Stdin); err != nil {
			log.Fatal(err)
		}
	default:
		if o.calls == 0 { // what counts would not see the program that is executed anew
			proc.Pin(0)
		}
		if err := run(o, os.Stdout); err != nil {
			log.Fatal(err)
		}
	}
}

// run starts the servers, measures the contenders and reports.
func run(o options, out io.Writer) error {
	env, stop, err := startServers()
	if err != nil {
		return err
	}
	defer stop()
	var rs []*runner
	for _, c := range contenders {
		if (c.name != baseline || o.calls > 0) && o.only != "" && !slices.Contains(strings.Split(o.only, ","), c.name) {
			continue
		}
		r, err := newRunner(c, env)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		defer r.close()
		rs = append(rs, r)
	}
	if o.calls > 0 {
		for _, r := range rs {
			if err := r.repeat(o.calls, o.workers); err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
		}
		return nil
	}
	for _, r := range rs {
		if _, err := r.load(300*time.Millisecond, 64); err != nil { // connects every server
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	for round := range o.rounds {
		for i := range rs {
			if err := rs[(i+round)%len(rs)].round(o); err != nil {
				return err
			}
		}
		fmt.Fprintf(os.Stderr, "round %d of %d done\n", round+1, o.rounds)
	}
	report(out, rs)
	return nil
}

// startServers runs this program again as the server process.
func startServers() (env environment, stop func(), err error) {
	cmd, err := proc.Child(1, "-server")
	if err != nil {
		return env, nil, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return env, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return env, nil, err
	}
	if err := cmd.Start(); err != nil {
		return env, nil, err
	}
	stop = func() { in.Close(); _ = cmd.Wait() }
	if err := json.NewDecoder(out).Decode(&env); err != nil {
		stop()
		return env, nil, fmt.Errorf("server process: %w", err)
	}
	return env, stop, nil
}

// columns are what is measured in a round.
var columns = []string{"p50 µs", "p99 µs", "calls/s", "CPU ns/call", "allocs/call", "B/call"}

// runner is a contender with its channel open.
type runner struct {
	contender
	client testpb.BenchmarkServiceClient
	close  func()
	rounds [][]float64 // by round, then column
}

var payload = &testpb.Payload{Body: make([]byte, 128)}

// newRunner opens the channel of a contender.
func newRunner(c contender, env environment) (*runner, error) {
	conn, closeConn, err := c.dial(env)
	if err != nil {
		return nil, err
	}
	r := &runner{contender: c, client: testpb.NewBenchmarkServiceClient(conn), close: closeConn}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := r.client.UnaryCall(ctx, &testpb.SimpleRequest{}, grpc.WaitForReady(true)); err != nil {
		closeConn()
		return nil, fmt.Errorf("first call: %w", err)
	}
	return r, nil
}

// repeat makes n calls from many goroutines.
func (r *runner) repeat(n, workers int) error {
	var calls errgroup.Group
	var made atomic.Int64
	for range workers {
		calls.Go(func() error {
			for made.Add(1) <= int64(n) {
				if err := r.call(context.Background()); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return calls.Wait()
}

func (r *runner) call(ctx context.Context) error {
	resp, err := r.client.UnaryCall(ctx, &testpb.SimpleRequest{Payload: payload})
	if err == nil && len(resp.GetPayload().GetBody()) != len(payload.Body) {
		err = fmt.Errorf("got %d bytes back", len(resp.GetPayload().GetBody()))
	}
	return err
}

func (r *runner) round(o options) error {
	runtime.GC()
	lat, err := r.latencies(o.dur / 2)
	if err != nil {
		return fmt.Errorf("%s: %w", r.name, err)
	}
	runtime.GC()
	l, err := r.load(o.dur, o.workers)
	if err != nil {
		return fmt.Errorf("%s: %w", r.name, err)
	}
	us := func(q float64) float64 { return float64(proc.Quantile(lat, q)) / 1e3 }
	r.rounds = append(r.rounds, []float64{us(0.5), us(0.99), l.rate, l.cpu, l.allocs, l.bytes})
	return nil
}

// latencies calls one at a time.
func (r *runner) latencies(d time.Duration) ([]time.Duration, error) {
	var out []time.Duration
	for begin := time.Now(); time.Since(begin) < d; {
		t := time.Now()
		if err := r.call(context.Background()); err != nil {
			return nil, err
		}
		out = append(out, time.Since(t))
	}
	return out, nil
}

// load is what many goroutines together saw.
type load struct{ rate, cpu, allocs, bytes float64 }

func (r *runner) load(d time.Duration, workers int) (load, error) {
	var (
		calls         atomic.Int64
		failed        atomic.Pointer[error]
		wg            sync.WaitGroup
		before, after runtime.MemStats
	)
	runtime.ReadMemStats(&before)
	cpu, begin := proc.CPU(), time.Now()
	var over atomic.Bool
	timer := time.AfterFunc(d, func() { over.Store(true) })
	defer timer.Stop()
	for range workers {
		wg.Go(func() {
			for !over.Load() {
				if err := r.call(context.Background()); err != nil {
					failed.Store(&err)
					over.Store(true)
					return
				}
				calls.Add(1)
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(begin)
	cpu = proc.CPU() - cpu
	runtime.ReadMemStats(&after)
	if err := failed.Load(); err != nil {
		return load{}, *err
	}
	n := float64(calls.Load())
	return load{
		rate: n / elapsed.Seconds(), cpu: float64(cpu) / n,
		allocs: float64(after.Mallocs-before.Mallocs) / n, bytes: float64(after.TotalAlloc-before.TotalAlloc) / n,
	}, nil
}

// report prints medians over the rounds, then medians of the ratios to the
// baseline within a round.
func report(out io.Writer, rs []*runner) {
	base := rs[slices.IndexFunc(rs, func(r *runner) bool { return r.name == baseline })]
	table := func(title, format string, value func(r *runner, round, column int) float64) {
		fmt.Fprintf(out, "\n%s (%s, grpc-go %s, %d rounds)\n\n| contender | %s |\n|---|%s\n", title,
			runtime.Version(), grpc.Version, len(base.rounds), strings.Join(columns, " | "), strings.Repeat("---:|", len(columns)))
		for _, r := range rs {
			fmt.Fprintf(out, "| %s |", r.name)
			for c := range columns {
				var v []float64
				for i := range r.rounds {
					v = append(v, value(r, i, c))
				}
				fmt.Fprintf(out, " "+format+" |", proc.Median(v))
			}
			fmt.Fprintln(out)
		}
	}
	table("Medians", "%.1f", func(r *runner, i, c int) float64 { return r.rounds[i][c] })
	table("Ratio to "+baseline, "%.3f", func(r *runner, i, c int) float64 { return r.rounds[i][c] / base.rounds[i][c] })
}
