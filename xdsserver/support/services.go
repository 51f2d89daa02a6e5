package support

import "strings"

const (
	noNetworks  = "endpoints with a network and no address are left out: there are no gateways between networks"
	noNames     = "calls fail, unless there are several endpoints: this release of gRPC does not resolve names itself, and would refuse the cluster"
	noIdentity  = "there is no identity yet"
	noTopology  = "it is for proxies and routers of Kubernetes"
	ringOnly    = "weights count in a ring only"
	noAffinity  = "calls are not bound to endpoints: write sessionAffinity in a MeshPolicy"
	allZones    = "calls go to all zones: write trafficDistribution in the Service, or localityLbSetting in a DestinationRule"
	conditionOK = "endpoints that are not ready get no calls, terminating ones none that are new"
)

var serviceEntryRows = []row{
	both("hosts[]", works()),
	{field: "addresses[]", library: works("further names of the service; blocks name nothing"), grpc: works("as for the library"), judge: entryAddress},
	both("ports[].number", works()),
	both("ports[].name", works()),
	both("ports[].protocol", works("`http` routes are for HTTP and gRPC ports; calls to others go to the service as it is")),
	both("ports[].targetPort", works()),
	both("location", works("it matters for telemetry and identity, which are to come")),
	since(NamedClusters, rejected(noNames), row{field: "resolution", library: works("`DNS` with all addresses, `DNS_ROUND_ROBIN` with one, the others while that cannot be connected to; `NONE` by looking up the name that was called, with one"), grpc: works("one of the addresses of a name; `NONE` by looking up the name that was called"), judge: resolution, spares: "STATIC", unset: "NONE"}),
	{field: "endpoints[].address", library: works("IP addresses, and names with `DNS`"), grpc: works("as for the library"), judge: workloadAddress},
	both("endpoints[].ports", works()),
	both("endpoints[].labels", works()),
	{field: "endpoints[].weight", library: works("in every policy"), grpc: degraded(ringOnly)},
	both("endpoints[].locality", works("as far as localityLbSetting does")),
	both("endpoints[].network", degraded(noNetworks)),
	both("endpoints[].serviceAccount", notServed(noIdentity)),
	both("workloadSelector", works("WorkloadEntries of the namespace; pods are known by EndpointSlices")),
	both("exportTo[]", works()),
	both("subjectAltNames[]", notServed(noIdentity)),
}

var workloadEntryRows = []row{
	{field: "address", library: works("IP addresses, and names where a service has resolution `DNS`"), grpc: works("as for the library"), judge: workloadAddress},
	both("ports", works()),
	both("labels", works("ServiceEntries and Services of the namespace select by them, subsets too")),
	both("network", degraded(noNetworks)),
	both("locality", works("as far as localityLbSetting does")),
	{field: "weight", library: works("in every policy"), grpc: degraded(ringOnly)},
	both("serviceAccount", notServed(noIdentity)),
}

// serviceRows are about Kubernetes Services.
var serviceRows = []row{
	both("ports[].name", works()),
	both("ports[].protocol", works("of UDP and SCTP nothing is made")),
	both("ports[].appProtocol", works()),
	both("ports[].port", works()),
	both("ports[].targetPort", works("for WorkloadEntries; EndpointSlices have it resolved")),
	both("ports[].nodePort", works(noTopology)),
	both("selector", works("selects WorkloadEntries; pods are known by EndpointSlices")),
	both("clusterIP", works("a further name of the service")),
	both("clusterIPs[]", works("further names of the service")),
	both("type", works()),
	since(NamedClusters, rejected(noNames), both("externalName", works())),
	both("publishNotReadyAddresses", works()),
	both("externalIPs[]", works(noTopology)),
	{field: "sessionAffinity", library: degraded(noAffinity), grpc: degraded(noAffinity), judge: unless("None")},
	both("sessionAffinityConfig", degraded(noAffinity)),
	both("loadBalancerIP", works(noTopology)),
	both("loadBalancerSourceRanges[]", works(noTopology)),
	both("externalTrafficPolicy", works(noTopology)),
	both("healthCheckNodePort", works(noTopology)),
	both("ipFamilies[]", works(noTopology)),
	both("ipFamilyPolicy", works(noTopology)),
	both("allocateLoadBalancerNodePorts", works(noTopology)),
	both("loadBalancerClass", works(noTopology)),
	both("internalTrafficPolicy", works("clients name their node: `NODE_NAME` in the metadata of the node, or the label `kubernetes.io/hostname`")),
	{field: "trafficDistribution", library: works("by degrees, unless a DestinationRule has localityLbSetting"), grpc: works("other endpoints are used when none of the nearer ones is connected")},
}

// endpointSliceRows are about Kubernetes EndpointSlices.
var endpointSliceRows = []row{
	both("addressType", works()),
	both("endpoints[].addresses[]", works("the first, as Kubernetes asks for")),
	both("endpoints[].conditions", works(conditionOK)),
	both("endpoints[].hostname", works("names of single endpoints are left to DNS")),
	both("endpoints[].targetRef", works("the name of the workload")),
	both("endpoints[].deprecatedTopology", works(noTopology)),
	both("endpoints[].nodeName", works()),
	both("endpoints[].zone", works("the zone, of no region")),
	both("endpoints[].hints", degraded(allZones)),
	both("ports[].name", works()),
	both("ports[].port", works()),
	both("ports[].protocol", works(noTopology)),
	both("ports[].appProtocol", works("that of the service counts")),
}

// resolution judges how the endpoints of a ServiceEntry are found.
func resolution(_ Client, table Verdict, value any) Verdict {
	if value == "DYNAMIC_DNS" {
		return notServed("the service has no endpoints")
	}
	return table
}

// entryAddress judges an address of a ServiceEntry.
func entryAddress(_ Client, table Verdict, value any) Verdict {
	if s, ok := value.(string); ok && strings.Contains(s, "/") {
		return degraded("calls cannot name a block of addresses; they name the host")
	}
	return table
}

// workloadAddress judges the address of an endpoint.
func workloadAddress(_ Client, table Verdict, value any) Verdict {
	if s, ok := value.(string); ok && strings.HasPrefix(s, "unix://") {
		return notServed("sockets of this kind are not sent to clients")
	}
	return table
}

// unless judges a field one of whose values asks for nothing.
func unless(nothing string) func(Client, Verdict, any) Verdict {
	return func(_ Client, table Verdict, value any) Verdict {
		if value == nothing {
			return works()
		}
		return table
	}
}
