package support

const (
	noBreaker    = "no call is refused"
	noFallback   = "calls that find no endpoint fail"
	noRateLimit  = "calls are not limited"
	noServer     = "servers are not limited"
	noSessions   = "calls are not bound to endpoints"
	noReset      = "the backoff holds whatever the answer says"
	noComparison = "endpoints are not ejected: this release of gRPC does not compare them"
	noHedge      = "there is one attempt at a time"
)

// ours makes a row of a setting that only this project's clients know.
func ours(field, otherwise string) row {
	return row{field: field, library: works(), grpc: degraded(otherwise)}
}

var meshPolicyRows = []row{
	both("host", works("short names, full names, wildcards")),
	both("subset", works()),
	both("port", works()),
	both("exportTo[]", works()),
	ours("breaker", noBreaker),
	ours("fallback.reply", noFallback),
	ours("fallback.grpc", noFallback),
	ours("fallback.destination", noFallback),
	ours("fallback.function", noFallback),
	ours("rateLimit.client", noRateLimit),
	ours("rateLimit.server", noServer),
	ours("maxConcurrentRequests", noServer),
	{field: "loadBalancer.policy", library: works(), grpc: degraded("`RANDOM` and `PEAK_EWMA` are round robin, and so is `LEAST_REQUEST` except in Go and Java"), judge: policyBalancer},
	ours("loadBalancer.decay", "gRPC has no PEAK_EWMA"),
	{field: "loadBalancer.choiceCount", library: works(), grpc: degraded("in Go and Java only"), judge: inGoAndJava},
	ours("loadBalancer.activeRequestBias", "gRPC's least request does not know of weights"),
	ours("loadBalancer.subsetSize", "clients connect to every endpoint"),
	ours("loadBalancer.panicThreshold", "gRPC has no panic mode"),
	ours("loadBalancer.slowStart", noWarmup),
	since(Ejection, degraded(noComparison), both("outlierDetection.successRate", works())),
	since(Ejection, degraded(noComparison), both("outlierDetection.failurePercentage", works())),
	since(Ejection, degraded(noComparison), both("outlierDetection.maxEjectionTime", works())),
	ours("retry.retriableHeaders[]", "gRPC retries by gRPC status only"),
	ours("retry.resetHeaders[]", noReset),
	ours("retry.maxResetInterval", noReset),
	since(Retries, degraded(noRetries), both("retry.maxBackoff", works())),
	{field: "hedge", library: works("unary calls, and streams until a server answers"), grpc: degraded(noHedge)},
	ours("sessionAffinity", noSessions),
	ours("timeouts.idle", "streams may be idle"),
	since(ExactTimeouts, degraded(lateTimeout), both("timeouts.maxStreamDuration", works())),
	since(ExactTimeouts, degraded(lateTimeout), both("timeouts.maxGRPCTimeout", works())),
	both("fault.maxActive", works()),
	both("fault.byHeader", works()),
}

func policyBalancer(c Client, table Verdict, value any) Verdict {
	if value == "PEAK_EWMA" && c.GRPC() {
		return degraded("round robin is used: gRPC has no PEAK_EWMA")
	}
	return simpleBalancer(c, table, value)
}

func inGoAndJava(c Client, table Verdict, _ any) Verdict {
	if c.Knows(LeastRequest) {
		return works()
	}
	return table
}
