package config

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"
	networking "istio.io/api/networking/v1alpha3"
)

// judge reports what a rule for single values says about a field.
func (r *reader) judge(path, bad string) {
	if bad != "" {
		r.errorf(path, "%s", bad)
	}
}

func checkVirtualService(r *reader, v *networking.VirtualService) {
	const spec = "spec"
	if len(v.Hosts) == 0 {
		checkDelegate(r, v)
	}
	mesh := len(v.Gateways) == 0 || slices.Contains(v.Gateways, MeshGateway)
	checkGatewayNames(r, "spec.gateways", v.Gateways)
	checkRuleHosts(r, v, mesh)
	if len(v.Http) == 0 && len(v.Tcp) == 0 && len(v.Tls) == 0 {
		r.errorf(spec, "has no routes: want http, tls or tcp")
	}
	for i, route := range v.Http {
		checkHTTPRoute(r, element("spec.http", i), route, len(v.Hosts) == 0)
		if mesh {
			checkClaims(r, element("spec.http", i), route)
		}
	}
	for i, route := range v.Tls {
		checkTLSRoute(r, element("spec.tls", i), route, v)
	}
	for i, route := range v.Tcp {
		checkTCPRoute(r, element("spec.tcp", i), route)
	}
	checkExportTo(r, v.ExportTo, false)
	checkReachable(r, v.Http)
	checkReachableTLS(r, v.Tls)
	checkReachableTCP(r, v.Tcp)
}

// checkDelegate checks a rule without hosts, which other rules delegate to.
func checkDelegate(r *reader, v *networking.VirtualService) {
	const only = "a rule without hosts is one that others delegate to, and has http routes only"
	if len(v.Gateways) > 0 {
		r.errorf("spec.gateways", "%s", only)
	}
	if len(v.Tls) > 0 {
		r.errorf("spec.tls", "%s", only)
	}
	if len(v.Tcp) > 0 {
		r.errorf("spec.tcp", "%s", only)
	}
}

func checkRuleHosts(r *reader, v *networking.VirtualService, mesh bool) {
	sni := !mesh && slices.ContainsFunc(v.Tls, func(route *networking.TLSRoute) bool {
		return slices.ContainsFunc(route.Match, func(m *networking.TLSMatchAttributes) bool { return len(m.SniHosts) > 0 })
	})
	for i, h := range v.Hosts {
		path := element("spec.hosts", i)
		switch bad := badHost(h); {
		case bad != "" && !isIP(h) && (!sni || !isClusterSNI(h)):
			r.errorf(path, "%s", bad)
		case h == "*" && mesh:
			r.errorf(path, "the host * is for gateways only; in the mesh a rule names its hosts")
		default:
			same := func(other string) bool { return (other != "*" || !mesh) && hostMatches(other, h) }
			if other := slices.IndexFunc(v.Hosts[:i], same); other >= 0 {
				r.errorf(path, "%s and %s are the same hosts", h, v.Hosts[other])
			}
		}
	}
}

// clusterSNI is the form of the server names that gateways between clusters are called by.
var clusterSNI = regexp.MustCompile(`^outbound_[^_]*[0-9][^_]*_[^_]*_[^_]*[a-zA-Z]`)

func isClusterSNI(host string) bool { return len(host) <= maxDomain && clusterSNI.MatchString(host) }

// checkGatewayNames checks the names of gateways. Like Istio it has no more than a warning for those after one without a
// namespace.
func checkGatewayNames(r *reader, path string, names []string) {
	report := r.errorf
	for i, g := range names {
		at := element(path, i)
		ns, name, cut := strings.Cut(g, "/")
		switch {
		case cut && (!isLabel(ns) || !isLabel(name)), !cut && badFQDN(g) != "":
			report(at, "%q is no gateway: want name or namespace/name", shorten(g))
		case !cut && strings.Contains(g, "."):
			r.warnf(at, "the form %q is out of date; write namespace/name", g)
		}
		if !cut {
			report = r.warnf
		}
	}
}

// checkClaims refuses matches by claims of tokens in the mesh: only gateways know them.
func checkClaims(r *reader, path string, route *networking.HTTPRoute) {
	for i, m := range route.Match {
		at := element(field(path, "match"), i)
		for _, headers := range []struct {
			name string
			all  map[string]*networking.StringMatch
		}{{"headers", m.Headers}, {"withoutHeaders", m.WithoutHeaders}} {
			for _, name := range slices.Sorted(maps.Keys(headers.all)) {
				if isClaim(name) {
					r.errorf(element(field(at, headers.name), name), "claims of tokens are matched at gateways only, and the rule is for the mesh")
				}
			}
		}
	}
}

func checkHTTPRoute(r *reader, path string, route *networking.HTTPRoute, delegated bool) {
	checkAction(r, path, route, delegated)
	for i, m := range route.Match {
		checkHTTPMatch(r, element(field(path, "match"), i), m)
	}
	checkHeaders(r, field(path, "headers"), route.Headers)
	checkCORS(r, field(path, "corsPolicy"), route.CorsPolicy)
	checkFault(r, field(path, "fault"), route.Fault)
	checkMirror(r, path, route)
	checkRedirect(r, field(path, "redirect"), route)
	checkDirectResponse(r, field(path, "directResponse"), route.DirectResponse)
	checkRetries(r, field(path, "retries"), route.Retries)
	checkRewrite(r, path, route)
	checkHTTPDestinations(r, field(path, "route"), route.Route)
	checkLimit(r, field(path, "timeout"), route.Timeout)
}

// checkLimit checks a time limit, for which 0 is written where none is meant. Istio refuses that.
func checkLimit(r *reader, path string, d *durationpb.Duration) {
	if d == nil {
		return
	}
	r.judge(path, badTimeout(d))
	if d.AsDuration() == 0 {
		r.at(Info, r.meta.LineOf(path), path, "0s is taken for no timeout; Istio itself refuses it, leave it out instead")
	}
}

// checkAction checks that a route does one thing.
func checkAction(r *reader, path string, route *networking.HTTPRoute, delegated bool) {
	if route.Delegate != nil {
		if delegated {
			r.errorf(field(path, "delegate"), "a rule that others delegate to cannot delegate further")
		}
		if route.Redirect != nil || len(route.Route) > 0 {
			r.errorf(field(path, "delegate"), "a route that delegates has no route or redirect of its own")
		}
		return
	}
	switch {
	case route.Redirect != nil && route.DirectResponse != nil:
		r.errorf(field(path, "directResponse"), "a route has redirect or directResponse, not both")
	case route.Redirect != nil && len(route.Route) > 0:
		r.errorf(field(path, "redirect"), "a route has route or redirect, not both")
	case route.DirectResponse != nil && len(route.Route) > 0:
		r.errorf(field(path, "directResponse"), "a route has route or directResponse, not both")
	case route.Redirect == nil && route.DirectResponse == nil && len(route.Route) == 0:
		r.errorf(path, "does nothing: want route, redirect, directResponse or delegate")
	}
	if route.Redirect == nil && route.DirectResponse == nil {
		return
	}
	answer := "directResponse"
	if route.Redirect != nil {
		answer = "redirect"
	}
	if route.Fault != nil {
		r.errorf(field(path, "fault"), "a route with %s has no fault", answer)
	}
	if route.Rewrite != nil {
		r.errorf(field(path, "rewrite"), "a route with %s has no rewrite", answer)
	}
}

func checkHTTPMatch(r *reader, path string, m *networking.HTTPMatchRequest) {
	checkPath(r, field(path, "uri"), m.Uri)
	checkAny(r, field(path, "scheme"), m.Scheme)
	checkAny(r, field(path, "method"), m.Method)
	checkAny(r, field(path, "authority"), m.Authority)
	checkStrings(r, field(path, "headers"), m.Headers, badHeaderMatchName)
	checkStrings(r, field(path, "withoutHeaders"), m.WithoutHeaders, badHeaderMatchName)
	checkStrings(r, field(path, "queryParams"), m.QueryParams, func(string) string { return "" })
	if m.Port != 0 {
		r.judge(field(path, "port"), badPort(m.Port))
	}
	checkLabels(r, field(path, "sourceLabels"), m.SourceLabels)
	checkGatewayNames(r, field(path, "gateways"), m.Gateways)
	if m.SourceNamespace != "" && !isLabel(m.SourceNamespace) {
		r.errorf(field(path, "sourceNamespace"), "%q is no namespace", shorten(m.SourceNamespace))
	}
}

// checkPath checks a match of the path, which has no query and begins with a slash.
func checkPath(r *reader, path string, m *networking.StringMatch) {
	checkRegex(r, path, m)
	warnEmpty(r, path, m)
	var text string
	switch m := m.GetMatchType().(type) {
	case *networking.StringMatch_Exact:
		text = cmp.Or(m.Exact, " ") // no path is empty
	case *networking.StringMatch_Prefix:
		text = cmp.Or(m.Prefix, "/")
	default:
		return
	}
	if strings.Contains(text, "?") {
		r.warnf(path, "a path never contains '?'; match the query with queryParams")
	}
	if text[0] != '/' && text != "*" {
		r.warnf(path, "never true: a path begins with '/'")
	}
}

// checkAny checks a match of what every request has.
func checkAny(r *reader, path string, m *networking.StringMatch) {
	checkString(r, path, m)
	warnEmpty(r, path, m)
}

func warnEmpty(r *reader, path string, m *networking.StringMatch) {
	if m != nil && m.MatchType == nil {
		r.warnf(path, "always true: {} is no condition; want exact, prefix or regex")
	}
}

// checkString checks a match of a text, of which only a path may be matched by the empty prefix.
func checkString(r *reader, path string, m *networking.StringMatch) {
	if p, ok := m.GetMatchType().(*networking.StringMatch_Prefix); ok && p.Prefix == "" {
		r.errorf(field(path, "prefix"), "must not be empty")
	}
	checkRegex(r, path, m)
}

func checkRegex(r *reader, path string, m *networking.StringMatch) {
	if re, ok := m.GetMatchType().(*networking.StringMatch_Regex); ok {
		r.judge(field(path, "regex"), badRegex(re.Regex))
	}
}

func checkStrings(r *reader, path string, m map[string]*networking.StringMatch, badName func(string) string) {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		r.judge(element(path, name), badName(name))
		if !isAnything(m[name]) || !strings.HasSuffix(path, ".withoutHeaders") {
			checkString(r, element(path, name), m[name])
		}
	}
}

// isAnything reports whether a match is the regular expression "*", which is none: for a header that must be absent it
// stands for any value.
func isAnything(m *networking.StringMatch) bool { return m.GetRegex() == "*" }

func checkLabels(r *reader, path string, labels map[string]string) {
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		r.judge(element(path, k), badLabel(k, labels[k]))
	}
}

func checkHeaders(r *reader, path string, h *networking.Headers) {
	request, response := field(path, "request"), field(path, "response")
	checkHeaderEdits(r, field(request, "add"), h.GetRequest().GetAdd(), true)
	checkHeaderEdits(r, field(request, "set"), h.GetRequest().GetSet(), true)
	checkHeaderEdits(r, field(response, "add"), h.GetResponse().GetAdd(), false)
	checkHeaderEdits(r, field(response, "set"), h.GetResponse().GetSet(), false)
	checkHeaderRemovals(r, field(request, "remove"), h.GetRequest().GetRemove())
	checkHeaderRemovals(r, field(response, "remove"), h.GetResponse().GetRemove())
}

func checkHeaderRemovals(r *reader, path string, names []string) {
	for i, name := range names {
		r.judge(element(path, i), badHeaderEdit(name, false))
		warnHeaderName(r, element(path, i), name, "there is nothing to remove")
	}
}

func checkHeaderEdits(r *reader, path string, edits map[string]string, request bool) {
	for _, name := range slices.Sorted(maps.Keys(edits)) {
		at := element(path, name)
		r.judge(at, badHeaderEdit(name, request))
		r.judge(at, badHeaderValue(edits[name]))
		warnHeaderName(r, at, name, "the route is refused by its clients, and its calls fail")
		if value := edits[name]; request && headerValueForm.MatchString(value) && !strings.HasSuffix(strings.ToLower(name), "-bin") &&
			strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c > '~' }) {
			r.warnf(at, "gRPC sends printable ASCII only: its calls fail")
		}
	}
}

// warnHeaderName warns about what Istio takes for the name of a header, and nobody who sends one.
func warnHeaderName(r *reader, path, name, then string) {
	if name != "" && name[0] != ':' && !headerNameForm.MatchString(name) {
		r.warnf(path, "%q is no header name: %s", shorten(name), then)
	}
}

func checkCORS(r *reader, path string, c *networking.CorsPolicy) {
	if c == nil {
		return
	}
	for i, o := range c.AllowOrigins {
		at := element(field(path, "allowOrigins"), i)
		if o.GetExact() == "" && o.GetPrefix() == "" && o.GetRegex() == "" {
			r.errorf(at, "want exact, prefix or regex, not empty")
		} else {
			checkString(r, at, o)
		}
	}
	methods := []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"}
	for i, m := range c.AllowMethods {
		if !slices.Contains(methods, m) {
			r.errorf(element(field(path, "allowMethods"), i), "unknown method %q; want one of %s", shorten(m), strings.Join(methods, ", "))
		}
	}
	for i, h := range c.AllowHeaders {
		r.judge(element(field(path, "allowHeaders"), i), badHeaderName(h))
	}
	for i, h := range c.ExposeHeaders {
		r.judge(element(field(path, "exposeHeaders"), i), badHeaderName(h))
	}
	if c.MaxAge != nil {
		r.judge(field(path, "maxAge"), badDuration(c.MaxAge))
		if c.MaxAge.Nanos != 0 {
			r.errorf(field(path, "maxAge"), "want whole seconds, have %s", c.MaxAge.AsDuration())
		}
	}
}

func checkFault(r *reader, path string, f *networking.HTTPFaultInjection) {
	if f == nil {
		return
	}
	if f.Abort == nil && f.Delay == nil {
		r.errorf(path, "want a delay, an abort or both")
	}
	if a := f.Abort; a != nil {
		checkAbort(r, field(path, "abort"), a)
	}
	if d := f.Delay; d != nil {
		checkDelay(r, field(path, "delay"), d)
	}
}

func checkAbort(r *reader, path string, a *networking.HTTPFaultInjection_Abort) {
	r.judge(field(path, "percentage"), badPercent(a.GetPercentage().GetValue()))
	if a.Percentage == nil {
		r.warnf(path, "without percentage no request is aborted; write percentage: {value: 100}")
	}
	switch e := a.ErrorType.(type) {
	case *networking.HTTPFaultInjection_Abort_GrpcStatus:
		r.judge(field(path, "grpcStatus"), badGRPCStatus(e.GrpcStatus))
	case *networking.HTTPFaultInjection_Abort_HttpStatus:
		r.judge(field(path, "httpStatus"), badHTTPStatus(int64(e.HttpStatus)))
	case *networking.HTTPFaultInjection_Abort_Http2Error:
		r.errorf(field(path, "http2Error"), "not supported by Istio; write httpStatus or grpcStatus")
	default:
		r.warnf(path, "aborts nothing: want httpStatus or grpcStatus")
	}
}

func checkDelay(r *reader, path string, d *networking.HTTPFaultInjection_Delay) {
	r.judge(field(path, "percentage"), badPercent(d.GetPercentage().GetValue()))
	if d.Percent < 0 || d.Percent > 100 { //nolint:staticcheck // deprecated by Istio, still read
		r.warnf(field(path, "percent"), "a percentage is from 0 to 100, not %d: the nearest of them is taken", d.Percent) //nolint:staticcheck // as above
	}
	if d.Percentage == nil && d.Percent == 0 { //nolint:staticcheck // as above
		r.warnf(path, "without percentage no request is delayed; write percentage: {value: 100}")
	}
	switch t := d.HttpDelayType.(type) {
	case *networking.HTTPFaultInjection_Delay_FixedDelay:
		r.judge(field(path, "fixedDelay"), badDuration(t.FixedDelay))
	case *networking.HTTPFaultInjection_Delay_ExponentialDelay:
		r.errorf(field(path, "exponentialDelay"), "not supported by Istio; write fixedDelay")
	default:
		r.warnf(path, "delays nothing: want fixedDelay")
	}
}

func checkMirror(r *reader, path string, route *networking.HTTPRoute) {
	checkDestination(r, field(path, "mirror"), route.Mirror)
	if route.Mirror != nil && len(route.Mirrors) > 0 && route.Delegate == nil {
		r.errorf(path, "write mirror or mirrors, not both")
	}
	if p := route.MirrorPercent; p != nil && p.Value > 100 { //nolint:staticcheck // deprecated by Istio, still read
		r.errorf(field(path, "mirrorPercent"), "a percentage is from 0 to 100, not %d", p.Value)
	}
	if p := route.MirrorPercentage; p != nil {
		checkCopied(r, field(path, "mirrorPercentage.value"), p.Value)
		if route.Mirror == nil {
			r.warnf(field(path, "mirrorPercentage"), "does nothing without mirror; each of mirrors has a percentage of its own")
		}
	}
	for i, m := range route.Mirrors {
		at := element(field(path, "mirrors"), i)
		checkDestination(r, field(at, "destination"), m.Destination)
		checkCopied(r, field(at, "percentage.value"), m.GetPercentage().GetValue())
	}
}

// checkCopied checks the share of the requests that are copied, for which Istio has no smallest one.
func checkCopied(r *reader, path string, p float64) {
	if p > 0 && p < smallestPercentage {
		r.warnf(path, "no request is copied: the smallest percentage above 0 is %v, have %v", smallestPercentage, p)
		return
	}
	r.judge(path, badPercent(p))
}

func checkRedirect(r *reader, path string, route *networking.HTTPRoute) {
	d := route.Redirect
	if d == nil {
		return
	}
	if d.Uri != "" && d.PrefixRewrite != "" {
		r.errorf(path, "write uri or prefixRewrite, not both")
	}
	if d.PrefixRewrite != "" {
		for i, m := range route.Match {
			if _, ok := m.GetUri().GetMatchType().(*networking.StringMatch_Prefix); m.Uri != nil && !ok {
				r.errorf(field(path, "prefixRewrite"), "every match of the route must have a uri with prefix; match[%d] has not", i)
			}
		}
	}
	if d.Uri == "" && d.PrefixRewrite == "" && d.Authority == "" && d.RedirectPort == nil && d.Scheme == "" {
		r.errorf(path, "want uri, prefixRewrite, authority, port or scheme")
	}
	if d.RedirectCode != 0 && (d.RedirectCode < 300 || d.RedirectCode > 399) {
		r.errorf(field(path, "redirectCode"), "want a status from 300 to 399, have %d", d.RedirectCode)
	}
	if d.Scheme != "" && d.Scheme != "http" && d.Scheme != "https" {
		r.errorf(field(path, "scheme"), "want http or https, have %q", shorten(d.Scheme))
	}
	if d.GetPort() != 0 {
		r.judge(field(path, "port"), badPort(d.GetPort()))
	}
}

func checkDirectResponse(r *reader, path string, d *networking.HTTPDirectResponse) {
	if d == nil {
		return
	}
	r.judge(field(path, "status"), badHTTPStatus(int64(d.Status)))
	const kb = 1 << 10
	switch size := len(d.GetBody().GetString_()) + len(d.GetBody().GetBytes()); {
	case size > kb*kb:
		r.errorf(field(path, "body"), "has %d bytes, at most %d are allowed", size, kb*kb)
	case size > 100*kb:
		r.warnf(field(path, "body"), "has %d bytes, and is sent to every client with its routes", size)
	}
}

func checkRetries(r *reader, path string, p *networking.HTTPRetry) {
	if p == nil {
		return
	}
	if p.Attempts < 0 {
		r.errorf(field(path, "attempts"), "want 0 or more, have %d", p.Attempts)
	}
	if p.Attempts == 0 && (p.PerTryTimeout != nil || p.RetryOn != "" || p.RetryRemoteLocalities != nil) {
		r.errorf(field(path, "attempts"), "attempts is 0, which turns retries off, and yet other fields are set")
	}
	checkLimit(r, field(path, "perTryTimeout"), p.PerTryTimeout)
	if at := field(path, "retryOn"); p.RetryOn != "" {
		for condition := range strings.SplitSeq(p.RetryOn, ",") {
			r.judge(at, badRetryOn(strings.TrimSpace(condition)))
		}
		if strings.Contains(p.RetryOn, " ") {
			r.at(Info, r.meta.LineOf(at), at, "Istio itself refuses spaces here; leave them out")
		}
	}
	if p.Backoff != nil {
		r.judge(field(path, "backoff"), badDuration(p.Backoff))
	}
}

func checkRewrite(r *reader, path string, route *networking.HTTPRoute) {
	authority := route.GetRewrite().GetAuthority()
	for _, edits := range []map[string]string{route.GetHeaders().GetRequest().GetSet(), route.GetHeaders().GetRequest().GetAdd()} {
		for _, name := range slices.Sorted(maps.Keys(edits)) {
			if !isAuthority(name) {
				continue
			}
			if authority != "" {
				r.errorf(field(path, "headers.request"), "the authority is set twice, to %q and to %q", shorten(authority), shorten(edits[name]))
			}
			authority = edits[name]
		}
	}
	w := route.Rewrite
	if w == nil {
		return
	}
	path = field(path, "rewrite")
	re := w.UriRegexRewrite
	switch {
	case w.Uri != "" && re != nil:
		r.errorf(path, "write uri or uriRegexRewrite, not both")
	case w.Uri == "" && re == nil && w.Authority == "":
		r.errorf(path, "want uri, uriRegexRewrite or authority")
	}
	if re == nil {
		return
	}
	if re.Match == "" || re.Rewrite == "" {
		r.errorf(field(path, "uriRegexRewrite"), "want both match and rewrite")
	} else {
		r.judge(field(path, "uriRegexRewrite.match"), badRegex(re.Match))
	}
}

func checkHTTPDestinations(r *reader, path string, all []*networking.HTTPRouteDestination) {
	weights := make([]int32, len(all))
	for i, d := range all {
		at := element(path, i)
		checkHeaders(r, field(at, "headers"), d.Headers)
		checkDestination(r, field(at, "destination"), d.Destination)
		weights[i] = d.Weight
	}
	checkWeights(r, path, weights)
}

func checkRouteDestinations(r *reader, path string, all []*networking.RouteDestination) {
	if len(all) == 0 {
		r.errorf(path, "does nothing: want at least one destination")
	}
	weights := make([]int32, len(all))
	for i, d := range all {
		checkDestination(r, field(element(path, i), "destination"), d.Destination)
		weights[i] = d.Weight
	}
	checkWeights(r, path, weights)
}

// maxWeights is what the weights of a route may add up to on the wire.
const maxWeights = 1<<32 - 1

func checkWeights(r *reader, path string, weights []int32) {
	total, negative := int64(0), false
	for i, w := range weights {
		total += int64(w)
		if w < 0 {
			negative = true
			r.errorf(field(element(path, i), "weight"), "want 0 or more, have %d", w)
		}
	}
	switch {
	case negative:
	case len(weights) > 1 && total == 0:
		r.errorf(path, "the weights add up to 0, so nothing would be sent anywhere")
	case total > maxWeights:
		r.errorf(path, "the weights add up to %d, more than %d", total, int64(maxWeights))
	}
}

func checkDestination(r *reader, path string, d *networking.Destination) {
	if d == nil {
		return
	}
	if d.Host == "*" {
		r.errorf(field(path, "host"), "* is no destination")
	} else {
		r.judge(field(path, "host"), badHost(d.Host))
	}
	if d.Subset != "" {
		r.judge(field(path, "subset"), badSubset(d.Subset))
	}
	if d.Port != nil {
		r.judge(field(path, "port.number"), badPort(d.Port.Number))
	}
}

func checkTLSRoute(r *reader, path string, route *networking.TLSRoute, v *networking.VirtualService) {
	if len(route.Match) == 0 {
		r.errorf(field(path, "match"), "want at least one match, of sniHosts")
	}
	for i, m := range route.Match {
		at := element(field(path, "match"), i)
		for j, sni := range m.SniHosts {
			checkSNI(r, element(field(at, "sniHosts"), j), sni, v)
		}
		checkL4(r, at, m.DestinationSubnets, m.Port, m.SourceLabels, m.Gateways)
	}
	checkRouteDestinations(r, field(path, "route"), route.Route)
}

func checkSNI(r *reader, path, sni string, v *networking.VirtualService) {
	mesh := slices.Contains(v.Gateways, MeshGateway)
	switch bad := badHost(sni); {
	case isIP(sni):
		r.warnf(path, "clients send no SNI for the IP address %s", sni)
	case bad != "" && (mesh || !isClusterSNI(sni)):
		r.errorf(path, "%s", bad)
	case !slices.ContainsFunc(v.Hosts, func(h string) bool { return covers(h, sni) }):
		r.errorf(path, "%s is none of the rule's hosts: %s", sni, strings.Join(v.Hosts, ", "))
	}
}

// covers reports whether every name of b is one of a.
func covers(a, b string) bool {
	return a == b || isWildcard(a) && strings.HasSuffix(b, a[1:])
}

func checkTCPRoute(r *reader, path string, route *networking.TCPRoute) {
	for i, m := range route.Match {
		checkL4(r, element(field(path, "match"), i), m.DestinationSubnets, m.Port, m.SourceLabels, m.Gateways)
	}
	checkRouteDestinations(r, field(path, "route"), route.Route)
}

func checkL4(r *reader, path string, subnets []string, port uint32, labels map[string]string, gateways []string) {
	for i, s := range subnets {
		r.judge(element(field(path, "destinationSubnets"), i), badCIDR(s))
	}
	if port != 0 {
		r.judge(field(path, "port"), badPort(port))
	}
	checkLabels(r, field(path, "sourceLabels"), labels)
	checkGatewayNames(r, field(path, "gateways"), gateways)
}
