// Package enginetest plays transcripts against the engine: scripts that a
// reader follows without knowing Go, with what the engine answered written
// behind each line. It also makes updates from the same words for other tests.
//
// A transcript is lines. Those that begin with = are output; they are compared
// with what the engine says now, or rewritten. Empty lines and lines that begin
// with # are for the reader. All other lines are commands:
//
//	target NAME                          what is applied and called from here on
//	listener [max_stream_duration=1m] [faults] [inbound] [limit=10/1s] [session=cookie:NAME]
//	all [specific-last] [OPTIONS]        header edits for all routes
//	hosts                                forget all hosts and their routes
//	host NAME DOMAIN... [OPTIONS]        a virtual host; routes that follow are its
//	route NAME [MATCH...] -> CLUSTER[:WEIGHT]... [OPTIONS]
//	cluster NAME [OPTIONS]               endpoints NAME ADDRESS[,OPTION]...
//	drop-cluster NAME                    missing NAME "why"
//	apply                                build the next snapshot
//	forget                               drop the target
//	names                                the clusters that the target needs
//	states                               how many clusters have live state
//	call [METHOD] PATH [HEADER:VALUE]... [authority=HOST] [from=IP] [http]
//	                                     with asking, what the headers ask for counts
//	calls N ...                          the same many times, counted
//	faults N ...                         the same, faults counted
//	report RESULT [xN] [on=ADDRESS]      an attempt on the host of the last call ended
//	tick DURATION                        let time pass
//	conn ADDRESS STATE                   idle, connecting, ready or failed
//	pick CLUSTER [xN] [tried=ADDRESS]    with hold, the attempts stay in flight
//	try|done request|pending|retry CLUSTER [xN]
//	hash ...                             like call: by which key the host is chosen
//	bind CLUSTER ADDRESS                 what keeps a client on a host
//	mirrors N ...                        like calls: the copies are counted
//	admit N ...                          like calls: what the rate limit says
//	fallback ...                         like call: what happens if there is no host
//	gate CLUSTER good|bad [xN]           calls through the half-open breaker
//	behind CLUSTER                       the clusters that stand behind it
//
// A MATCH is path=, prefix=, separated= or regex=, fraction=25%, or a header as
// readHeader explains. OPTIONS of hosts and routes are timeout=2s, longest=9s,
// retry=5xx*3 with per_try=1s and retry_meets=HEADER:VALUE, delay=2s,50%,
// abort=503,10% (abort=grpc14,10%), refused="why" and denied="why", and what
// actions.go reads: header edits, rewrites, redirects, replies, mirrors, hash
// policies, limits and fallbacks. A CLUSTER. in front of header edits and
// rewrite_host= makes them those of the weighted cluster. Those of clusters are lb=, panic=, the limits max_requests=, max_pending= and
// max_retries=, and the fields of outlier detection that setCluster and outlier
// read; half_open=, session=, retry_budget=, aggregate= and fallback= are explained
// in actions.go.
//
// This package makes no promise of a stable API.
package enginetest
