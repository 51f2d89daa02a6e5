package support

import (
	"slices"
	"strings"
	"time"

	networking "istio.io/api/networking/v1alpha3"
)

const (
	noMirror   = "calls are not mirrored"
	noEdits    = "headers are sent and received as they are"
	noRetries  = "calls are not retried: this release of gRPC does not"
	noQuery    = "the match is never true: gRPC calls have no query"
	otherLayer = "gRPC calls take the http routes"
	noBrowser  = "left out: browsers make no gRPC calls"
	timeout    = "for the whole call with its retries; `0s` is none"

	lateTimeout = "calls end up to two seconds late: the C core counts from one to two seconds before the call, and is told two more"
)

var virtualServiceRows = []row{
	both("hosts[]", works("short names, full names, wildcards")),
	{field: "gateways[]", library: works("for `mesh`; rules for gateways only wait for gateways"), grpc: works("as for the library"), judge: meshGateway},
	both("exportTo[]", works()),
	both("http[].name", works("the route's name")),
	both("http[].match[].name", works("part of the route's name")),
	both("http[].match[].uri", works("exact, prefix, regex")),
	both("http[].match[].ignoreUriCase", works()),
	{field: "http[].match[].method", library: works("gRPC calls are POST"), grpc: works("decided by the control plane")},
	{field: "http[].match[].scheme", library: works("`http`, or `https` with credentials that encrypt"), grpc: works("decided by the control plane: always `http`")},
	{field: "http[].match[].authority", library: works(), grpc: works("decided by the control plane, for each name of the service")},
	{field: "http[].match[].headers", library: works("`user-agent` included; " + unseenHeaders + " never match"), grpc: degraded("`user-agent`, " + unseenHeaders + " never match"), judge: header},
	{field: "http[].match[].withoutHeaders", library: works("without " + unseenHeaders + " always holds"), grpc: degraded("without `user-agent`, " + unseenHeaders + " always holds"), judge: header},
	both("http[].match[].queryParams", degraded(noQuery)),
	both("http[].match[].port", works()),
	both("http[].match[].sourceLabels", works()),
	both("http[].match[].sourceNamespace", works()),
	{field: "http[].match[].gateways[]", library: works("for `mesh`"), grpc: works("for `mesh`"), judge: meshGateway},
	both("http[].match[].statPrefix", degraded("it names no metric")),
	both("http[].route[].destination.host", works()),
	both("http[].route[].destination.subset", works()),
	both("http[].route[].destination.port", works()),
	both("http[].route[].weight", works()),
	{field: "http[].route[].headers", library: works(edits), grpc: degraded(noEdits), judge: headerEdits},
	{field: "http[].headers", library: works(edits), grpc: degraded(noEdits), judge: headerEdits},
	{field: "http[].redirect", library: degraded("the call fails with an error that names the place: gRPC has no redirects"), grpc: rejected("calls fail: gRPC has no redirects")},
	{field: "http[].directResponse", library: works("calls get the gRPC status that stands for the HTTP status, and the body as its message"), grpc: rejected("calls fail with UNAVAILABLE: gRPC does not know direct responses")},
	both("http[].delegate", works()),
	{field: "http[].rewrite.uri", library: works(), grpc: degraded("calls keep their method")},
	{field: "http[].rewrite.uriRegexRewrite", library: works(), grpc: degraded("calls keep their method")},
	{field: "http[].rewrite.authority", library: works(), grpc: degraded("calls keep their authority")},
	since(ExactTimeouts, degraded(lateTimeout), row{field: "http[].timeout", library: works(timeout), grpc: works(timeout), spares: time.Duration(0)}),
	since(Retries, degraded(noRetries), both("http[].retries.attempts", works("2 unless set, 0 is none"))),
	{field: "http[].retries.perTryTimeout", library: works("of a stream until it is answered; other than in Envoy also while the attempt waits for a connection or the request is being sent"), grpc: degraded("attempts have no timeout of their own")},
	since(Retries, degraded(noRetries), row{field: "http[].retries.retryOn", library: works("Envoy's conditions, gRPC statuses and status codes; `5xx` and `gateway-error` read the gRPC status"), grpc: degraded("gRPC retries by gRPC status only: other conditions stand for the statuses that they mean, or for nothing"), judge: grpcRetryOn}),
	{field: "http[].retries.retryRemoteLocalities", library: works("from the second retry on, as in Istio"), grpc: degraded("retries prefer the localities that any call prefers")},
	{field: "http[].retries.retryIgnorePreviousHosts", library: works("on unless set"), grpc: degraded("retries go wherever the load balancer sends them")},
	since(Retries, degraded(noRetries), both("http[].retries.backoff", works())),
	both("http[].fault.delay.fixedDelay", works()),
	both("http[].fault.delay.percentage", works("in millionths")),
	both("http[].fault.delay.percent", works("deprecated by Istio")),
	both("http[].fault.delay.exponentialDelay", rejected("refused, as by Istio")),
	both("http[].fault.abort.httpStatus", works("as the gRPC status that gRPC maps it to")),
	{field: "http[].fault.abort.grpcStatus", library: works("`OK` is UNKNOWN: the call has no answer"), grpc: works()},
	both("http[].fault.abort.http2Error", rejected("refused, as by Istio")),
	both("http[].fault.abort.percentage", works("in millionths; without it nothing is aborted, as in Istio")),
	{field: "http[].mirror", library: works("unary calls and streams"), grpc: degraded(noMirror)},
	{field: "http[].mirrors[]", library: works("unary calls and streams"), grpc: degraded(noMirror)},
	{field: "http[].mirrorPercentage", library: works("in millionths"), grpc: degraded(noMirror)},
	{field: "http[].mirrorPercent", library: works("deprecated by Istio"), grpc: degraded(noMirror)},
	{field: "http[].corsPolicy", library: degraded(noBrowser), grpc: degraded("left out: gRPC would refuse every route of the service over it")},
	both("tls[]", notServed(otherLayer)),
	both("tcp[]", notServed(otherLayer)),
}

// meshGateway judges the name of a gateway.
func meshGateway(_ Client, table Verdict, value any) Verdict {
	if value == "mesh" {
		return table
	}
	return notServed("rules of gateways wait for gateways")
}

const edits = "requests and responses, streams too; values of `…-bin` in base64; calls fail where a value has a variable such as `%REQ(name)%`, or a request's is not ASCII"

// headerEdits judges the values that headers get.
func headerEdits(c Client, table Verdict, value any) Verdict {
	h, ok := value.(*networking.Headers)
	if !ok || c.GRPC() {
		return table
	}
	for _, list := range []map[string]string{h.GetRequest().GetSet(), h.GetRequest().GetAdd(), h.GetResponse().GetSet(), h.GetResponse().GetAdd()} {
		for _, v := range list {
			if strings.Contains(strings.ReplaceAll(v, "%%", ""), "%") {
				return rejected("calls that take the route fail: values of headers are plain text, without variables")
			}
		}
	}
	unsendable := func(r rune) bool { return r < ' ' || r > '~' }
	for _, list := range []map[string]string{h.GetRequest().GetSet(), h.GetRequest().GetAdd()} {
		for _, v := range list {
			if strings.ContainsFunc(v, unsendable) {
				return rejected("calls that take the route fail: gRPC sends no headers but of printable ASCII")
			}
		}
	}
	return table
}

// unseenHeaders are those that gRPC makes, or has the bytes of, which no client matches.
const unseenHeaders = "`te`, `grpc-…` and `…-bin`"

// header judges the name of a header that clients match, or do not.
func header(_ Client, table Verdict, value any) Verdict {
	name := strings.ToLower(value.(string))
	unseen := name == "te" || strings.HasPrefix(name, "grpc-") || strings.HasSuffix(name, "-bin")
	switch {
	case unseen:
		return degraded(table.Reason)
	case name == "user-agent":
		return table
	}
	return works()
}

// grpcConditions are the conditions of retries that gRPC's own clients act on.
var grpcConditions = []string{"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"}

func grpcRetryOn(c Client, table Verdict, value any) Verdict {
	if !c.GRPC() {
		return table
	}
	var others []string
	for condition := range strings.SplitSeq(value.(string), ",") {
		if condition = strings.TrimSpace(condition); condition != "" && !slices.Contains(grpcConditions, condition) {
			others = append(others, condition)
		}
	}
	if others == nil {
		return works()
	}
	return degraded("gRPC retries by gRPC status only: " + strings.Join(others, ", ") + " stand for the statuses that they mean, or for nothing")
}
