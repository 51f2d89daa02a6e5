package conformance_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// soakRules is a configuration of the host reviews that was drawn, and what of it
// says how calls may end.
type soakRules struct {
	yaml   string
	stops  bool         // a server stopped when they came
	routes [2]soakRoute // for calls with the header version: v2, and for all others

	maxRequests, maxPending, maxRetries        int // 0: no limit
	breaker, limited, sheds, strict            bool
	partly                                     bool   // the MeshPolicy is for a subset
	brief                                      bool   // endpoints are left out for moments
	fallback                                   string // destination, grpc, reply, function; empty: none
	idle, maxStream                            time.Duration
	serverLimited, hedges, retriesOfMeshPolicy bool
}

// soakRoute is one route of them.
type soakRoute struct {
	subset          string // empty: of no subset
	attempts        int    // beside the first
	perTry, timeout time.Duration
	aborts, edits   bool
	direct          bool // it answers by itself
}

// soakDelay is that of the faults.
const soakDelay = 5 * time.Millisecond

// drawing draws parts of YAML.
type drawing struct{ *rand.Rand }

// maybe is a text with some probability, else empty.
func (d drawing) maybe(share float64, text string, args ...any) string {
	if d.Float64() >= share {
		return ""
	}
	return fmt.Sprintf(text, args...)
}

func (d drawing) one(of ...string) string { return of[d.IntN(len(of))] }

// millis is a time from least up to most.
func (d drawing) millis(least, most int) time.Duration {
	return time.Duration(least+d.IntN(most-least)) * time.Millisecond
}

// fields is a YAML mapping of those parts that are there.
func fields(parts ...string) string {
	return "{" + strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" || strings.HasSuffix(p, ": {}") }), ", ") + "}"
}

// drawRules draws a configuration. Each policy is there or not, by chance.
func drawRules(rnd *rand.Rand) *soakRules {
	d := drawing{rnd}
	r := &soakRules{}
	whole := r.traffic(d, 0.8)
	r.brief = strings.Contains(whole, "outlierDetection")
	docs := []string{fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  trafficPolicy: %s
  subsets: [{name: v1, labels: {version: v1}, trafficPolicy: %s}, {name: v2, labels: {version: v2}}]
`, whole, r.traffic(d, 0.3))}
	r.routes = [2]soakRoute{{attempts: 2}, {attempts: 2}} // Istio's default
	if d.Float64() < 0.9 {
		first := strings.TrimPrefix(r.route(d, &r.routes[0], "v2"), "{")
		docs = append(docs, fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - {match: [{headers: {version: {exact: v2}}}], %s
  - %s
`, first, r.route(d, &r.routes[1], d.one("", "v1", "v2"))))
	}
	if d.Float64() < 0.7 {
		docs = append(docs, fmt.Sprintf(`
apiVersion: networking.meshframe.dev/v1alpha1
kind: MeshPolicy
metadata: {name: reviews}
spec: %s
`, r.policy(d)))
	}
	if d.Float64() < 0.2 {
		r.sheds = true
		r.serverLimited = d.IntN(2) == 0
		rate := ""
		if r.serverLimited {
			rate = "rateLimit: {server: {maxTokens: 20, tokensPerFill: 20, fillInterval: 50ms}}"
		}
		docs = append(docs, fmt.Sprintf(`
apiVersion: networking.meshframe.dev/v1alpha1
kind: MeshPolicy
metadata: {name: reviews-servers}
spec: %s
`, fields("host: reviews", fmt.Sprintf("maxConcurrentRequests: %d", 1+d.IntN(4)), rate)))
	}
	r.yaml = strings.Join(docs, "---")
	return r
}

// limit draws a limit, and keeps the greatest there is of its kind.
func (d drawing) limit(share float64, kept *int, name string, least, most int) string {
	if d.Float64() >= share {
		return ""
	}
	n := least + d.IntN(most-least)
	*kept = max(*kept, n)
	return fmt.Sprintf("%s: %d", name, n)
}

// traffic is a trafficPolicy.
func (r *soakRules) traffic(d drawing, share float64) string {
	if d.Float64() >= share {
		return "{loadBalancer: {simple: ROUND_ROBIN}}"
	}
	pool := fields(
		"tcp: "+fields(d.maybe(0.3, "maxConnections: %d", 1+d.IntN(3)), d.maybe(0.3, "idleTimeout: %v", d.millis(5, 50)),
			d.maybe(0.3, "maxConnectionDuration: %v", d.millis(100, 300))),
		"http: "+fields(d.maybe(0.4, "maxRequestsPerConnection: %d", 1+d.IntN(20)), d.maybe(0.4, "maxConcurrentStreams: %d", 1+d.IntN(5)),
			d.limit(0.2, &r.maxRequests, "http2MaxRequests", 3, 30), d.limit(0.2, &r.maxPending, "http1MaxPendingRequests", 5, 20),
			d.limit(0.2, &r.maxRetries, "maxRetries", 1, 5), d.maybe(0.3, "idleTimeout: %v", d.millis(5, 50))))
	lb := d.one("{simple: ROUND_ROBIN}", "{simple: LEAST_REQUEST}", "{simple: RANDOM}", "{simple: ROUND_ROBIN, warmup: {duration: 1s}}",
		"{consistentHash: {httpHeaderName: id}}", "{consistentHash: {httpCookie: {name: user, ttl: 0s}}}",
		"{consistentHash: {httpHeaderName: id, maglev: {tableSize: 101}}}", "{consistentHash: {useSourceIp: true}}")
	outlier := d.maybe(0.4, "outlierDetection: {consecutive5xxErrors: %d, interval: 20ms, baseEjectionTime: 20ms, maxEjectionPercent: 100, minHealthPercent: %d}",
		1+d.IntN(4), d.IntN(2)*50)
	return fields("connectionPool: "+pool, "loadBalancer: "+lb, outlier)
}

// route is a route.
func (r *soakRules) route(d drawing, to *soakRoute, subset string) string {
	*to = soakRoute{subset: subset}
	retries := "{attempts: 0}"
	switch d.IntN(5) {
	case 0:
	case 1:
		to.attempts = 3
		retries = `{attempts: 3, retryOn: "unavailable,reset,connect-failure", backoff: 1ms}`
	case 2:
		to.attempts, to.perTry = 3, d.millis(5, 30)
		retries = fmt.Sprintf(`{attempts: 3, perTryTimeout: %v, retryOn: "unavailable,deadline-exceeded", backoff: 1ms}`, to.perTry)
	case 3:
		to.attempts, to.perTry = 2, d.millis(2, 20)
		retries = fmt.Sprintf(`{attempts: 2, perTryTimeout: %v, retryOn: "5xx", retryIgnorePreviousHosts: false}`, to.perTry)
	default:
		to.attempts = 4
		retries = `{attempts: 4, retryOn: "5xx,retriable-headers,reset", backoff: 2ms}`
	}
	destination := "host: reviews"
	if subset != "" {
		destination += ", subset: " + subset
	}
	timeout := d.maybe(0.3, "timeout: %v", d.millis(10, 100))
	if timeout != "" {
		to.timeout, _ = time.ParseDuration(strings.TrimPrefix(timeout, "timeout: "))
	}
	to.edits, to.aborts = d.Float64() < 0.3, d.Float64() < 0.2
	edits, fault := "", ""
	if to.edits {
		edits = "headers: {request: {set: {edited: yes}}, response: {set: {edited: 'yes'}}}"
	}
	if to.aborts {
		fault = fmt.Sprintf("fault: {delay: {percentage: {value: 20}, fixedDelay: %v}, abort: {percentage: {value: 5}, httpStatus: 503}}", soakDelay)
	}
	forward := "route: [{destination: {" + destination + "}" + d.maybe(0.3, ", headers: {response: {add: {by: destination}}}") + "}]"
	if subset == "" && d.IntN(2) == 0 {
		forward = "route: [{destination: {host: reviews, subset: v1}, weight: 70}, {destination: {host: reviews, subset: v2}, weight: 30}]"
	}
	if d.Float64() < 0.03 {
		to.direct = true
		return fields("directResponse: {status: 503, body: {string: direct}}")
	}
	return fields(forward, "retries: "+retries, timeout, edits, fault,
		d.maybe(0.3, "mirrors: [{destination: {host: ratings}, percentage: {value: 50}}]"),
		d.maybe(0.2, "rewrite: {authority: elsewhere}"))
}

// policy is the spec of a MeshPolicy.
func (r *soakRules) policy(d drawing) string {
	subset := ""
	if d.IntN(4) == 0 {
		subset, r.partly = d.one("subset: v1", "subset: v2"), true
	}
	set := func(share float64, what *bool, text string, args ...any) string {
		text = d.maybe(share, text, args...)
		*what = *what || text != ""
		return text
	}
	var fallback, timeouts string
	if d.Float64() < 0.4 {
		r.fallback = d.one("destination", "grpc", "reply", "function")
		fallback = "fallback: " + map[string]string{
			"destination": "{destination: {host: ratings}}", "grpc": "{grpc: {code: ABORTED, message: fallback}}",
			"reply": "{reply: {status: 503, body: fallback}}", "function": "{function: answer}",
		}[r.fallback]
	}
	switch d.IntN(6) {
	case 0:
		r.idle = d.millis(10, 50)
		timeouts = fmt.Sprintf("timeouts: {idle: %v}", r.idle)
	case 1:
		r.maxStream = d.millis(10, 60)
		timeouts = fmt.Sprintf("timeouts: {maxStreamDuration: %v}", r.maxStream)
	case 2:
		r.idle, r.maxStream = d.millis(10, 50), d.millis(10, 60)
		timeouts = fmt.Sprintf("timeouts: {idle: %v, maxStreamDuration: %v}", r.idle, r.maxStream)
	}
	affinity := d.maybe(0.3, "sessionAffinity: %s", d.one("{header: session}", "{header: session, strict: true}", "{cookie: {name: session}}"))
	r.strict = strings.Contains(affinity, "strict")
	var ignored bool
	outlier := "outlierDetection: {failurePercentage: {minimumHosts: 1, requestVolume: 5, threshold: 50}, maxEjectionTime: 1s}"
	switch others := fields(affinity, timeouts, fallback) != "{}"; {
	case others && (d.IntN(2) == 0 || !r.brief):
		outlier = ""
	case !r.brief: // by itself it would keep endpoints out for half a minute
		outlier = "timeouts: {idle: 1h}"
	}
	return fields("host: reviews", subset, outlier,
		set(0.3, &r.breaker, "breaker: {minVolume: 5, errorPercent: 30, window: 200ms, openFor: 100ms}"),
		fallback,
		set(0.2, &r.limited, "rateLimit: {client: {maxTokens: 50, tokensPerFill: 50, fillInterval: 50ms}}"),
		set(0.4, &r.hedges, "hedge: {onPerTryTimeout: true}"),
		affinity, timeouts,
		set(0.2, &ignored, "loadBalancer: %s", d.one("{policy: PEAK_EWMA, decay: 100ms}", "{subsetSize: 1}", "{panicThreshold: 0}")),
		set(0.3, &r.retriesOfMeshPolicy, "retry: {retriableHeaders: [{name: again}], resetHeaders: [{name: after, format: SECONDS}]}"),
		d.maybe(0.2, "fault: {maxActive: 2}"))
}

// ended is how a call ended that these rules may explain.
type ended struct {
	err      error
	took     time.Duration
	deadline time.Duration // that the caller set; 0: none
	canceled bool          // by the caller
	route    int           // of soakRules.routes
	unary    bool

	// What it asked for by Envoy's headers.
	asksTime    bool
	asked       time.Duration // in place of the route's timeout if asksTime
	askedPerTry time.Duration // in addition to the route's
	retries     int           // at most, where the route has fewer
}

// explains reports whether a call that failed may end so under the rules.
func (r *soakRules) explains(e *ended) bool {
	s := status.Convert(e.err)
	route := &r.routes[e.route]
	says := func(text string) bool { return strings.Contains(s.Message(), text) }
	switch s.Code() {
	case codes.Canceled:
		return e.canceled
	case codes.Aborted:
		return s.Message() == "fallback" && r.fallback == "grpc"
	case codes.ResourceExhausted:
		return says("by the server") && r.serverLimited || says("rate limited") && r.limited
	case codes.DeadlineExceeded:
		return slices.ContainsFunc([]time.Duration{e.deadline, route.timeout, route.perTry, r.maxStream, r.idle, e.asked, e.askedPerTry}, func(d time.Duration) bool {
			return d > 0 && e.took >= d-time.Millisecond
		})
	case codes.Unavailable:
		return r.stops || says("injected by") || says("injected late") ||
			says("fault filter abort") && route.aborts ||
			s.Message() == "direct" && route.direct ||
			s.Message() == "fallback" && r.fallback == "reply" ||
			says("too many requests") && r.maxRequests > 0 ||
			says("too many pending requests") && r.maxPending > 0 ||
			says("the circuit breaker is open") && r.breaker ||
			says("no healthy endpoint") && r.ejects() ||
			says("session is strict") && r.strict ||
			says("sheds load") && r.sheds
	}
	return false
}

// ejects reports whether endpoints may be left out.
func (r *soakRules) ejects() bool { return strings.Contains(r.yaml, "outlierDetection") }

// bound is how long a call may take; 0 is not said.
func (r *soakRules) bound(e *ended) time.Duration {
	maxStream := r.maxStream
	if r.partly {
		maxStream = 0
	}
	timeout := r.routes[e.route].timeout
	bound := shorter(timeout, maxStream)
	if e.asksTime {
		if bound == timeout { // the other is not seen beside it
			maxStream = 0
		}
		bound = shorter(e.asked, maxStream)
	}
	if bound > 0 && r.routes[e.route].aborts {
		bound += soakDelay // which comes before
	}
	return shorter(bound, e.deadline)
}

// shorter returns the shorter of two times, of which 0 is none.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// answerers are the servers that may answer a call, and the function.
func (r *soakRules) answerers(route int) []string {
	var out []string
	for _, version := range []string{"v1", "v2"} {
		if s := r.routes[route].subset; s == "" || s == version {
			out = append(out, version)
		}
	}
	switch r.fallback {
	case "destination":
		out = append(out, "ratings")
	case "function":
		out = append(out, "answer")
	}
	return out
}
