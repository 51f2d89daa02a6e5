package conformance

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Play plays a row on a road and returns what is not as it must be. It must run
// in a bubble of testing/synctest, whose test ends what it starts.
func Play(t *testing.T, road Road, row *Row) (wrong []string) {
	t.Helper()
	p := &player{recorder: &recorder{TB: t}, row: row, servers: map[string]Running{}, jar: map[int]string{}, carry: map[string]string{}, stuck: map[int]string{}}
	t.Cleanup(p.answering.Wait) // after what road.Open cleans up
	var done sync.WaitGroup
	done.Go(func() { // of its own, for FailNow ends it
		p.world = road.Open(p.recorder, row.Client)
		p.play()
	})
	done.Wait()
	return p.recorder.end()
}

// recorder is a test whose failures are kept instead of reported until end was
// called.
type recorder struct {
	testing.TB

	mu    sync.Mutex
	wrong []string
	ended bool
}

// Errorf implements testing.TB.
func (r *recorder) Errorf(format string, args ...any) {
	r.TB.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		r.TB.Errorf(format, args...)
		return
	}
	r.wrong = append(r.wrong, fmt.Sprintf(format, args...))
}

// Fatalf implements testing.TB.
func (r *recorder) Fatalf(format string, args ...any) {
	r.TB.Helper()
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recorder) end() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	return r.wrong
}

// player plays one row.
type player struct {
	*recorder

	row       *Row
	world     World
	servers   map[string]Running
	warming   atomic.Bool
	answering sync.WaitGroup

	mu    sync.Mutex
	seen  []visit        // by servers, in this step
	jar   map[int]string // cookies, by number within the cycle
	carry map[string]string
	stuck map[int]string // who answered, by number within the cycle
}

// visit is a request that a server saw.
type visit struct {
	server string
	Arrival
}

func (p *player) play() {
	p.world.Batch(func() {
		for _, s := range p.row.Servers {
			if !s.Later {
				p.start(s)
			}
		}
		p.apply(p.row.Config)
	})
	if p.row.Warm {
		p.warm()
	}
	for i := range p.row.Steps {
		p.step(i+1, &p.row.Steps[i])
	}
}

// warmth is how many calls connect a client to every server that it may use.
const warmth = 12

// warm makes calls like the first of the row. Servers answer them at once.
func (p *player) warm() {
	i := slices.IndexFunc(p.row.Steps, func(s Step) bool { return s.Call != nil })
	call := *p.row.Steps[i].Call
	call.Cookies, call.Carry = false, nil
	p.warming.Store(true)
	for range warmth {
		p.one(&call, 0)
		synctest.Wait()
	}
	p.warming.Store(false)
}

// apply applies YAML with the addresses of servers put in.
func (p *player) apply(yaml string) {
	p.world.Apply(p.addressed(yaml))
}

// addressed puts the addresses of servers into a text.
func (p *player) addressed(text string) string {
	for name, server := range p.servers {
		text = strings.ReplaceAll(text, "$"+name, server.IP())
	}
	return strings.ReplaceAll(text, "$dead", "10.255.255.1")
}

func (p *player) start(s Server) {
	var mu sync.Mutex
	rest := slices.Clone(s.Behave)
	next := func() Behaviour {
		mu.Lock()
		defer mu.Unlock()
		if len(rest) == 0 {
			return Behaviour{}
		}
		b := rest[0]
		if rest[0].Times--; rest[0].Times == 0 {
			rest = rest[1:]
		}
		return b
	}
	p.servers[s.Name] = p.world.Start(s, func(seen Arrival) Answer {
		p.answering.Add(1)
		defer p.answering.Done()
		if p.warming.Load() {
			return Answer{Body: s.Name}
		}
		p.mu.Lock()
		p.seen = append(p.seen, visit{s.Name, seen})
		p.mu.Unlock()
		b := next()
		// Also when the caller has given up: an answer at the very moment of a
		// deadline would race with it.
		time.Sleep(b.Delay)
		code, _ := codeOf(b.Status) // Rows has checked it
		return Answer{Body: s.Name, Status: code, Headers: b.Headers, Trailers: b.Trailers, Load: b.Load}
	})
}

func (p *player) step(number int, s *Step) {
	if s.Wait > 0 {
		time.Sleep(s.Wait)
	}
	for _, name := range s.Start {
		i := slices.IndexFunc(p.row.Servers, func(s Server) bool { return s.Name == name })
		p.start(p.row.Servers[i])
	}
	for _, name := range s.Stop {
		p.servers[name].Stop()
		p.world.Sync()
	}
	for _, name := range s.Kill {
		p.servers[name].Kill()
	}
	if s.Apply != "" {
		p.apply(s.Apply)
	}
	if s.Call == nil {
		return
	}
	p.mu.Lock()
	p.seen = nil
	p.mu.Unlock()
	synctest.Wait() // what the last step began is done
	responses := p.call(s.Call)
	synctest.Wait() // copies of calls are on their way, too
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, wrong := range p.compare(s, responses) {
		p.Errorf("step %d: %s", number, wrong)
	}
}

// call makes the calls of a step and returns what came of them, in order.
func (p *player) call(c *Call) []Response {
	var background sync.WaitGroup
	defer background.Wait()
	if c.Kill != "" {
		background.Go(func() {
			time.Sleep(c.KillAfter)
			p.servers[c.Kill].Kill()
		})
	}
	responses := make([]Response, c.Times)
	for i := range c.Times {
		if c.Parallel {
			background.Go(func() { responses[i] = p.one(c, i%c.Cycle) })
			continue
		}
		if i > 0 && c.Every > 0 {
			time.Sleep(c.Every)
		}
		responses[i] = p.one(c, i%c.Cycle)
		if c.Kill == "" {
			synctest.Wait() // connections that it began are there for the next
		}
	}
	background.Wait()
	return responses
}

// patience ends calls that nothing else ends.
const patience = time.Hour

var errPatience = errors.New("nothing ended the call")

// one makes one call.
func (p *player) one(c *Call, number int) Response {
	request := Request{Target: p.addressed(c.Target), Path: c.Path, Headers: map[string]string{}}
	for name, value := range c.Headers {
		request.Headers[name] = strings.ReplaceAll(value, "{i}", strconv.Itoa(number))
	}
	p.mu.Lock()
	for _, name := range c.Carry {
		request.Headers[name] = p.carry[name]
	}
	if cookie := p.jar[number]; c.Cookies && cookie != "" {
		request.Headers["cookie"] = cookie
	}
	p.mu.Unlock()
	ctx, cancel := context.WithCancelCause(p.Context())
	if c.Deadline > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, c.Deadline)
		defer stop()
	}
	defer cancel(nil)
	timer := time.AfterFunc(patience, func() { cancel(errPatience) })
	defer timer.Stop()

	began := time.Now()
	response := p.world.Call(ctx, request)
	response.Took = time.Since(began)
	p.remember(number, response)
	return response
}

// remember keeps the cookies and headers of a response for later calls.
func (p *player) remember(number int, r Response) {
	if p.warming.Load() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, cookie := range r.Headers["set-cookie"] {
		p.jar[number], _, _ = strings.Cut(cookie, ";")
	}
	if r.Status == 0 {
		for name, values := range r.Headers {
			p.carry[name] = strings.Join(values, ",")
		}
	}
}
