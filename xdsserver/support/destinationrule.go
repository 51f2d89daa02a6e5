package support

import (
	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"
)

const (
	noBinding   = "calls are not bound to endpoints: gRPC hashes by a header only, in a ring only"
	noRing      = "calls are not bound to endpoints: this release of gRPC would refuse the cluster"
	noWarmup    = "new endpoints get their full share of calls at once"
	noReports   = "round robin: this release of gRPC does not weigh endpoints by what they report"
	noEjection  = "endpoints are not ejected: gRPC cannot count consecutive errors"
	onlyShares  = "for failurePercentageThreshold only: gRPC cannot count consecutive errors"
	noBudget    = "retries are not limited by a budget"
	noZones     = "clients that know their locality prefer their region, and in it calls are spread over all zones by the weight of their endpoints: what the own zone can take depends on how many callers each zone has, which is not known"
	noTLS       = "calls fail: there is no TLS yet, and plaintext would break what the rule asks for"
	ownSettings = "there is one HTTP/2 connection per endpoint, which the client manages"
	isHTTP2     = "gRPC is HTTP/2 anyway"
)

var destinationRuleRows = []row{
	both("host", works()),
	both("exportTo[]", works()),
	both("workloadSelector", works()),
	both("subsets[].name", works()),
	both("subsets[].labels", works()),
	{field: "subsets[].trafficPolicy", as: "trafficPolicy", library: works("replaces the rule's, setting by setting, each as below"), grpc: works("as for the library")},
	{field: "trafficPolicy.portLevelSettings[]", as: "trafficPolicy", library: works("replaces all others, as in Istio, each setting as below"), grpc: works("as for the library")},
	both("trafficPolicy.portLevelSettings[].port.number", works()),
	{field: "trafficPolicy.loadBalancer.simple", library: works("least request unless set; `PASSTHROUGH` is the default policy"), grpc: degraded("`RANDOM` is round robin, and so is `LEAST_REQUEST` except in Go and Java; round robin unless set"), judge: simpleBalancer},
	since(RingHash, degraded(noRing), both("trafficPolicy.loadBalancer.consistentHash.httpHeaderName", works())),
	{field: "trafficPolicy.loadBalancer.consistentHash.httpCookie", library: works("a cookie in the metadata, made when there is none"), grpc: degraded(noBinding)},
	{field: "trafficPolicy.loadBalancer.consistentHash.useSourceIp", library: works("the address of the process"), grpc: degraded(noBinding)},
	both("trafficPolicy.loadBalancer.consistentHash.httpQueryParameterName", degraded("calls are not bound to endpoints: gRPC calls have no query")),
	since(RingHash, degraded(noRing), row{field: "trafficPolicy.loadBalancer.consistentHash.ringHash.minimumRingSize", library: works(), grpc: works("at most 4096"), judge: ringSize}),
	since(RingHash, degraded(noRing), row{field: "trafficPolicy.loadBalancer.consistentHash.minimumRingSize", library: works("deprecated by Istio"), grpc: works("at most 4096"), judge: ringSize}),
	{field: "trafficPolicy.loadBalancer.consistentHash.maglev", library: works(), grpc: degraded("calls are not bound to endpoints: gRPC would refuse the cluster")},
	since(Utilization, degraded(noReports), both("trafficPolicy.loadBalancer.backendUtilization.weightStabilizationPeriod", works())),
	since(Utilization, degraded(noReports), both("trafficPolicy.loadBalancer.backendUtilization.weightExpirationPeriod", works())),
	since(Utilization, degraded(noReports), both("trafficPolicy.loadBalancer.backendUtilization.weightUpdatePeriod", works("at least 100ms"))),
	since(Utilization, degraded(noReports), both("trafficPolicy.loadBalancer.backendUtilization.errorUtilizationPenaltyPercent", works())),
	{field: "trafficPolicy.loadBalancer.backendUtilization.metricNamesForComputingUtilization[]", library: works(), grpc: degraded("the utilization of the application counts, and without it that of the CPU")},
	both("trafficPolicy.loadBalancer.localityLbSetting.enabled", works()),
	both("trafficPolicy.loadBalancer.localityLbSetting.distribute[]", works()),
	{field: "trafficPolicy.loadBalancer.localityLbSetting.failover[]", library: works("with outlierDetection, by degrees"), grpc: degraded("another locality is used only when no endpoint of the nearer one is connected: endpoints are not ejected")},
	{field: "trafficPolicy.loadBalancer.localityLbSetting.failoverPriority[]", library: works("with outlierDetection, by degrees"), grpc: degraded("other endpoints are used only when none of the nearer ones is connected: endpoints are not ejected")},
	{field: "trafficPolicy.loadBalancer.zoneAwareLbSetting.enabled", library: degraded(noZones), grpc: degraded(noZones), judge: zoneAware, unset: wrapperspb.Bool(true)},
	{field: "trafficPolicy.loadBalancer.zoneAwareLbSetting.failover[]", library: works("by degrees; without outlierDetection too, as in Istio, and then by which endpoints are connected"), grpc: degraded("another region is used only when no endpoint of the nearer one is connected: endpoints are not ejected")},
	{field: "trafficPolicy.loadBalancer.zoneAwareLbSetting.failoverPriority[]", library: works("by degrees, and among endpoints that are alike the own region comes first; without outlierDetection too, as in Istio, and then by which endpoints are connected"), grpc: degraded("other endpoints are used only when none of the nearer ones is connected: endpoints are not ejected")},
	both("trafficPolicy.loadBalancer.zoneAwareLbSetting.minClusterSize", degraded("calls are spread over all zones of the region, however many endpoints there are")),
	{field: "trafficPolicy.loadBalancer.warmup", library: works(), grpc: degraded(noWarmup)},
	{field: "trafficPolicy.loadBalancer.warmupDurationSecs", library: works("deprecated by Istio"), grpc: degraded(noWarmup)},
	{field: "trafficPolicy.connectionPool.tcp.maxConnections", library: works("the first connection to each endpoint is made in any case, as in Envoy; there are more with maxRequestsPerConnection, maxConnectionDuration and maxConcurrentStreams"), grpc: degraded("there is one connection per endpoint")},
	{field: "trafficPolicy.connectionPool.tcp.connectTimeout", library: works(), grpc: degraded("gRPC's own limit holds, 20 seconds")},
	{field: "trafficPolicy.connectionPool.tcp.tcpKeepalive", library: works("for connections that are made from then on"), grpc: degraded(ownSettings)},
	{field: "trafficPolicy.connectionPool.tcp.maxConnectionDuration", library: works("calls that are under way then end on their connection"), grpc: degraded(ownSettings)},
	{field: "trafficPolicy.connectionPool.tcp.idleTimeout", library: works("where http.idleTimeout is not set, as in Istio"), grpc: degraded(ownSettings)},
	{field: "trafficPolicy.connectionPool.http.http1MaxPendingRequests", library: works("calls that wait for a connection"), grpc: degraded("any number of calls may wait for a connection")},
	both("trafficPolicy.connectionPool.http.http2MaxRequests", works("calls under way to the cluster; unlimited unless set")),
	{field: "trafficPolicy.connectionPool.http.maxRetries", library: works("retries under way to the cluster"), grpc: degraded("any number of retries may be under way")},
	{field: "trafficPolicy.connectionPool.http.maxRequestsPerConnection", library: works("calls that find every connection used up wait for the next, as pending ones"), grpc: degraded(ownSettings)},
	{field: "trafficPolicy.connectionPool.http.idleTimeout", library: works("never unless set, but with maxConcurrentStreams an hour; a call connects again"), grpc: degraded(ownSettings)},
	{field: "trafficPolicy.connectionPool.http.maxConcurrentStreams", library: works("further connections are made, one at a time, when all are full"), grpc: degraded("the server's own limit holds")},
	both("trafficPolicy.connectionPool.http.http2KeepAlive", degraded("pings are a setting of a whole client in gRPC, made before there is configuration, and no setting of its connections: use its keepalive options")),
	both("trafficPolicy.connectionPool.http.h2UpgradePolicy", works(isHTTP2)),
	both("trafficPolicy.connectionPool.http.useClientProtocol", works(isHTTP2)),
	{field: "trafficPolicy.outlierDetection.consecutive5xxErrors", library: works("reading the gRPC status"), grpc: degraded(noEjection)},
	{field: "trafficPolicy.outlierDetection.consecutiveGatewayErrors", library: works("reading the gRPC status"), grpc: degraded(noEjection)},
	{field: "trafficPolicy.outlierDetection.consecutiveErrors", library: works("the old name of consecutiveGatewayErrors"), grpc: degraded(noEjection)},
	{field: "trafficPolicy.outlierDetection.consecutiveLocalOriginFailures", library: works(), grpc: degraded(noEjection)},
	{field: "trafficPolicy.outlierDetection.splitExternalLocalOriginErrors", library: works(), grpc: degraded(noEjection)},
	{field: "trafficPolicy.outlierDetection.outlierDetectionHttpErrorCodes[]", library: works("the gRPC status read as HTTP"), grpc: degraded(noEjection)},
	since(Ejection, degraded("endpoints are not ejected by this release of gRPC"), both("trafficPolicy.outlierDetection.failurePercentageThreshold", works("of endpoints with 50 calls in an interval, if 5 have as many, as in Envoy; off unless set, and at 0"))),
	{field: "trafficPolicy.outlierDetection.interval", library: works(), grpc: degraded(onlyShares)},
	{field: "trafficPolicy.outlierDetection.baseEjectionTime", library: works("longer with each ejection"), grpc: degraded(onlyShares)},
	{field: "trafficPolicy.outlierDetection.maxEjectionPercent", library: works("10 unless set, as in Envoy: of fewer than ten endpoints none is ejected then"), grpc: degraded(onlyShares)},
	{field: "trafficPolicy.outlierDetection.minHealthPercent", library: works("below it all endpoints are used; 0, or unset, is never"), grpc: degraded(noEjection)},
	{field: "trafficPolicy.tls", library: rejected("every mode but `DISABLE` fails, never plaintext"), grpc: rejected("as for the library"), judge: tlsMode},
	both("trafficPolicy.tunnel", degraded("it is for tcp and tls routes, in Istio too, which are not served yet: http routes connect directly")),
	{field: "trafficPolicy.proxyProtocol", library: works("connections that are made from then on begin with a header, which names the process as the source"), grpc: degraded("the PROXY protocol is not spoken")},
	{field: "trafficPolicy.retryBudget.percent", library: works(), grpc: degraded(noBudget)},
	{field: "trafficPolicy.retryBudget.minRetryConcurrency", library: works(), grpc: degraded(noBudget)},
	{field: "trafficPolicy.retryBudget.budgetInterval", library: works("of the attempts that began within it; without it of those under way"), grpc: degraded(noBudget)},
}

func simpleBalancer(c Client, table Verdict, value any) Verdict {
	switch {
	case value == "PASSTHROUGH":
		return degraded("the default policy is used: there is no original destination to pass calls through to")
	case !c.GRPC():
		return table
	case value == "RANDOM":
		return degraded("round robin is used: gRPC refuses RANDOM")
	case (value == "LEAST_REQUEST" || value == "LEAST_CONN") && !c.Knows(LeastRequest):
		return degraded("round robin is used: this gRPC implementation refuses LEAST_REQUEST")
	default:
		return works()
	}
}

// zoneAware judges whether zones are asked for: they are unless it is false.
func zoneAware(_ Client, table Verdict, value any) Verdict {
	if on, ok := value.(*wrapperspb.BoolValue); ok && !on.GetValue() {
		return works("calls are spread over all localities by the weight of their endpoints")
	}
	return table
}

// ringSize judges the size of a ring.
func ringSize(c Client, table Verdict, value any) Verdict {
	if n, ok := value.(uint64); ok && c.GRPC() && n > 4096 {
		return degraded("the ring has 4096 entries, which is the most that gRPC takes")
	}
	return table
}

func tlsMode(_ Client, _ Verdict, value any) Verdict {
	if t, ok := value.(*networking.ClientTLSSettings); ok && t.Mode == networking.ClientTLSSettings_DISABLE {
		return works()
	}
	return rejected(noTLS)
}
