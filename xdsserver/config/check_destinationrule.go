package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	networking "istio.io/api/networking/v1alpha3"
	istiotype "istio.io/api/type/v1beta1"
)

func checkDestinationRule(r *reader, d *networking.DestinationRule) {
	r.judge("spec.host", badHost(d.Host))
	checkTrafficPolicy(r, "spec.trafficPolicy", d.TrafficPolicy)
	seen := map[string]bool{}
	for i, s := range d.Subsets {
		path := element("spec.subsets", i)
		r.judge(field(path, "name"), badSubset(s.Name))
		if seen[s.Name] {
			r.errorf(field(path, "name"), "the subset %q is written twice", s.Name)
		}
		seen[s.Name] = true
		checkLabels(r, field(path, "labels"), s.Labels)
		checkTrafficPolicy(r, field(path, "trafficPolicy"), s.TrafficPolicy)
	}
	checkExportTo(r, d.ExportTo, false)
	checkSelector(r, "spec.workloadSelector", d.WorkloadSelector)
	elsewhere := func(e string) bool { return e != "." && e != r.meta.Namespace }
	if d.WorkloadSelector != nil && slices.ContainsFunc(d.ExportTo, elsewhere) {
		r.errorf("spec.exportTo", "a rule with a workloadSelector is for its own namespace only")
	}
}

func checkTrafficPolicy(r *reader, path string, p *networking.TrafficPolicy) {
	if p == nil {
		return
	}
	if p.LoadBalancer == nil && p.ConnectionPool == nil && p.OutlierDetection == nil && p.Tls == nil && p.PortLevelSettings == nil &&
		p.Tunnel == nil && p.ProxyProtocol == nil && p.RetryBudget == nil {
		r.errorf(path, "is empty")
	}
	if p.Tunnel != nil && p.ProxyProtocol != nil {
		r.errorf(path, "write tunnel or proxyProtocol, not both")
	}
	checkPolicy(r, path, p)
	if b := p.RetryBudget; b != nil {
		at := field(path, "retryBudget")
		r.judge(field(at, "percent"), badPercent(b.Percent.GetValue()))
		r.judge(field(at, "budgetInterval"), badInterval(b.BudgetInterval))
	}
	for i, s := range p.PortLevelSettings {
		at := element(field(path, "portLevelSettings"), i)
		if s.Port == nil {
			r.errorf(field(at, "port"), "missing, but required")
		} else if bad := badPort(s.Port.Number); bad != "" {
			r.warnf(field(at, "port.number"), "%s: the settings do nothing", bad)
		}
		if s.LoadBalancer == nil && s.ConnectionPool == nil && s.OutlierDetection == nil && s.Tls == nil {
			r.errorf(at, "is empty")
		}
		checkPolicy(r, at, s)
	}
	if t := p.Tunnel; t != nil {
		checkTunnel(r, field(path, "tunnel"), t)
	}
}

// policy is what the policy of a rule and that of one of its ports have in common.
type policy interface {
	GetLoadBalancer() *networking.LoadBalancerSettings
	GetConnectionPool() *networking.ConnectionPoolSettings
	GetOutlierDetection() *networking.OutlierDetection
	GetTls() *networking.ClientTLSSettings
}

func checkPolicy(r *reader, path string, p policy) {
	checkLoadBalancer(r, field(path, "loadBalancer"), p.GetLoadBalancer(), p.GetOutlierDetection())
	checkConnectionPool(r, field(path, "connectionPool"), p.GetConnectionPool())
	checkOutlierDetection(r, field(path, "outlierDetection"), p.GetOutlierDetection())
	checkClientTLS(r, field(path, "tls"), p.GetTls())
}

func checkTunnel(r *reader, path string, t *networking.TrafficPolicy_TunnelSettings) {
	if t.Protocol != "" && t.Protocol != "CONNECT" && t.Protocol != "POST" {
		r.errorf(field(path, "protocol"), "want CONNECT or POST, have %q", shorten(t.Protocol))
	}
	if !isIP(t.TargetHost) {
		r.judge(field(path, "targetHost"), badFQDN(t.TargetHost))
	}
	r.judge(field(path, "targetPort"), badPort(t.TargetPort))
}

func checkLoadBalancer(r *reader, path string, lb *networking.LoadBalancerSettings, outlier *networking.OutlierDetection) {
	if lb == nil {
		return
	}
	if c := lb.GetConsistentHash(); c != nil {
		checkConsistentHash(r, field(path, "consistentHash"), c)
	}
	if lb.LocalityLbSetting != nil && lb.ZoneAwareLbSetting != nil {
		r.errorf(path, "write localityLbSetting or zoneAwareLbSetting, not both")
	}
	checkLocality(r, field(path, "localityLbSetting"), lb.LocalityLbSetting, outlier)
	checkZones(r, field(path, "zoneAwareLbSetting"), lb.ZoneAwareLbSetting, outlier)
	checkUtilization(r, field(path, "backendUtilization"), lb.GetBackendUtilization())
	checkWarmup(r, path, lb)
}

// shortestUpdate is the least period in which Envoy computes weights anew.
const shortestUpdate = 100 * time.Millisecond

func checkUtilization(r *reader, path string, b *networking.LoadBalancerSettings_BackendUtilizationLB) {
	if b == nil {
		return
	}
	if d := b.WeightStabilizationPeriod; d != nil {
		r.judge(field(path, "weightStabilizationPeriod"), badTimeout(d))
	}
	if d := b.WeightExpirationPeriod; d != nil {
		r.judge(field(path, "weightExpirationPeriod"), badDuration(d))
	}
	if d := b.WeightUpdatePeriod; d != nil {
		if bad := badDuration(d); bad != "" {
			r.judge(field(path, "weightUpdatePeriod"), bad)
		} else if d.AsDuration() < shortestUpdate {
			r.warnf(field(path, "weightUpdatePeriod"), "want at least %s, have %s: weights are computed every %[1]s", shortestUpdate, d.AsDuration())
		}
	}
	for i, name := range b.MetricNamesForComputingUtilization {
		if !isMetric(name) {
			r.warnf(element(field(path, "metricNamesForComputingUtilization"), i),
				"%q is no field of a load report: want cpu_utilization, mem_utilization, application_utilization, or utilization.NAME, request_cost.NAME or named_metrics.NAME", shorten(name))
		}
	}
}

// isMetric reports whether a name is that of a field of xds.data.orca.v3.OrcaLoadReport, or of an entry of one.
func isMetric(name string) bool {
	switch name {
	case "cpu_utilization", "mem_utilization", "application_utilization", "rps_fractional", "eps":
		return true
	}
	of, key, _ := strings.Cut(name, ".")
	return key != "" && (of == "utilization" || of == "request_cost" || of == "named_metrics")
}

func checkWarmup(r *reader, path string, lb *networking.LoadBalancerSettings) {
	if d := lb.WarmupDurationSecs; d != nil { //nolint:staticcheck // deprecated by Istio, still read
		r.judge(field(path, "warmupDurationSecs"), badDuration(d))
		if lb.Warmup != nil {
			r.warnf(field(path, "warmupDurationSecs"), "does nothing beside warmup")
		}
	}
	if w := lb.Warmup; w != nil && w.Duration != nil {
		r.judge(field(path, "warmup.duration"), badDuration(w.Duration))
		if p := w.MinimumPercent; p != nil && (p.Value < 0 || p.Value > 100) {
			r.errorf(field(path, "warmup.minimumPercent"), "a percentage is from 0 to 100, not %v", p.Value)
		}
		if a := w.Aggression; a != nil && a.Value <= 0 {
			r.errorf(field(path, "warmup.aggression"), "want more than 0, have %v", a.Value)
		}
	}
}

// maxMaglev is one more than the largest table of Envoy.
const maxMaglev = 5000011

func checkConsistentHash(r *reader, path string, c *networking.LoadBalancerSettings_ConsistentHashLB) {
	if c.HashKey == nil {
		r.warnf(path, "binds no request to an endpoint: want httpHeaderName, httpCookie, useSourceIp or httpQueryParameterName")
	}
	seen := map[string]bool{}
	for i, a := range c.GetHttpCookie().GetAttributes() {
		if seen[a.Name] {
			r.errorf(element(field(path, "httpCookie.attributes"), i), "the attribute %q is written twice", shorten(a.Name))
		}
		seen[a.Name] = true
	}
	if c.MinimumRingSize != 0 && c.HashAlgorithm != nil { //nolint:staticcheck // deprecated by Istio, still read
		r.errorf(field(path, "minimumRingSize"), "cannot be combined with ringHash or maglev")
	}
	if m := c.GetMaglev(); m != nil {
		switch size := m.TableSize; {
		case size == 0 || size >= maxMaglev:
			r.errorf(field(path, "maglev.tableSize"), "want a prime number below %d, have %d", maxMaglev, size)
		case !isPrime(size):
			r.errorf(field(path, "maglev.tableSize"), "want a prime number such as 65537, have %d", size)
		}
	}
}

func isPrime(n uint64) bool {
	for d := uint64(2); d*d <= n; d++ {
		if n%d == 0 {
			return false
		}
	}
	return n > 1
}

func checkLocality(r *reader, path string, l *networking.LocalityLoadBalancerSetting, outlier *networking.OutlierDetection) {
	if l == nil {
		return
	}
	if len(l.Distribute) > 0 && len(l.Failover) > 0 {
		r.errorf(path, "write distribute or failover, not both")
	}
	checkDistribute(r, field(path, "distribute"), l.Distribute)
	for i, label := range l.FailoverPriority {
		if len(l.Failover) > 0 && slices.Contains(heeded, label) {
			r.errorf(element(field(path, "failoverPriority"), i), "%s cannot be written beside failover, which says already what becomes of regions and zones", label)
		}
	}
	checkFailover(r, field(path, "failover"), l.Failover)
	if len(l.Failover)+len(l.FailoverPriority) > 0 && outlier == nil {
		r.warnf(path, "failover does nothing without outlierDetection: no endpoint is ever found unhealthy")
	}
}

// checkDistribute checks where the callers of each place send their requests.
func checkDistribute(r *reader, path string, distribute []*networking.LocalityLoadBalancerSetting_Distribute) {
	for i, d := range distribute {
		at := field(element(path, i), "from")
		r.judge(at, badLocality(d.From))
		taken := func(o *networking.LocalityLoadBalancerSetting_Distribute) bool { return placesMeet(o.From, d.From) }
		// As in Istio a wildcard may follow single places: the first that fits is taken.
		if j := slices.IndexFunc(distribute[:min(i, maxBroad)], taken); j >= 0 {
			r.errorf(at, "has places in common with %s of distribute[%d]", distribute[j].From, j)
		}
		checkShares(r, field(element(path, i), "to"), d.To)
	}
}

// checkShares checks the shares that places get. Whether Istio takes two that have places in common, of which one is a
// wildcard, is a matter of luck there: it compares them in no order.
func checkShares(r *reader, path string, to map[string]uint32) {
	total := uint32(0)
	all := slices.Sorted(maps.Keys(to))
	for i, place := range all {
		at := element(path, place)
		if w := to[place]; w < 1 || w > 100 {
			r.errorf(at, "a weight is from 1 to 100, not %d", w)
		}
		total += to[place]
		r.judge(at, badLocality(place))
		for _, other := range all[:min(i, maxBroad)] {
			switch before, after := placesMeet(other, place), placesMeet(place, other); {
			case before && after:
				r.errorf(at, "has places in common with %s", other)
			case before || after:
				r.at(Info, r.meta.LineOf(at), at, "has places in common with %s, which Istio itself refuses now and then", other)
			}
		}
	}
	if total != 100 {
		r.errorf(path, "the weights add up to %d, not 100", total)
	}
}

// placesMeet reports whether a place takes some of what a later one is for.
func placesMeet(first, later string) bool {
	a, b := strings.SplitN(first, "/", 3), strings.SplitN(later, "/", 3)
	for i := range min(len(a), len(b)) {
		if a[i] == "*" {
			return true
		}
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// checkFailover checks the regions that stand in for others.
func checkFailover[F interface {
	GetFrom() string
	GetTo() string
}](r *reader, path string, failover []F) {
	for i, f := range failover {
		at := element(path, i)
		switch {
		case f.GetFrom() == f.GetTo():
			r.errorf(at, "from and to are the same region")
		case strings.ContainsAny(f.GetFrom()+f.GetTo(), "/*"):
			r.errorf(at, "want regions, without zone and without wildcard")
		}
	}
}

// heeded are the labels that zone aware routing goes by anyway. As in Istio, they may be written with a value.
var heeded = []string{"topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"}

func checkZones(r *reader, path string, l *networking.ZoneAwareLoadBalancerSetting, outlier *networking.OutlierDetection) {
	if l == nil {
		return
	}
	for i, label := range l.FailoverPriority {
		if slices.Contains(heeded, label) {
			r.errorf(element(field(path, "failoverPriority"), i), "%s cannot be written here: regions and zones are heeded anyway", label)
		}
	}
	checkFailover(r, field(path, "failover"), l.Failover)
	if n := l.MinClusterSize; n != nil && n.Value == 0 {
		r.errorf(field(path, "minClusterSize"), "want at least 1, have 0")
	}
	if len(l.Failover)+len(l.FailoverPriority) > 0 && outlier == nil {
		r.warnf(path, "failover without outlierDetection goes by which endpoints are connected: none is ever ejected")
	}
}

func badLocality(l string) string {
	parts := strings.SplitN(l, "/", 3)
	if i := strings.IndexByte(l, '*'); slices.Contains(parts, "") || i >= 0 && i != len(l)-1 {
		return "want region/zone/subzone, where the last part may be *"
	}
	return ""
}

func checkConnectionPool(r *reader, path string, c *networking.ConnectionPoolSettings) {
	if c == nil {
		return
	}
	if c.Http == nil && c.Tcp == nil {
		r.errorf(path, "is empty: want http or tcp")
	}
	if h := c.Http; h != nil {
		checkHTTPPool(r, field(path, "http"), h)
	}
	if t := c.Tcp; t != nil {
		checkTCPPool(r, field(path, "tcp"), t)
	}
}

func checkHTTPPool(r *reader, path string, h *networking.ConnectionPoolSettings_HTTPSettings) {
	checkCount(r, field(path, "http1MaxPendingRequests"), h.Http1MaxPendingRequests)
	checkCount(r, field(path, "http2MaxRequests"), h.Http2MaxRequests)
	checkCount(r, field(path, "maxRequestsPerConnection"), h.MaxRequestsPerConnection)
	checkCount(r, field(path, "maxRetries"), h.MaxRetries)
	checkCount(r, field(path, "maxConcurrentStreams"), h.MaxConcurrentStreams)
	checkLimit(r, field(path, "idleTimeout"), h.IdleTimeout)
	if h.H2UpgradePolicy == networking.ConnectionPoolSettings_HTTPSettings_UPGRADE && h.UseClientProtocol {
		r.errorf(field(path, "useClientProtocol"), "must not be true when h2UpgradePolicy is UPGRADE")
	}
	if k := h.Http2KeepAlive; k != nil {
		checkRequired(r, field(path, "http2KeepAlive.interval"), k.Interval)
		checkRequired(r, field(path, "http2KeepAlive.timeout"), k.Timeout)
	}
}

func checkRequired(r *reader, path string, d *durationpb.Duration) {
	if d == nil {
		r.errorf(path, "missing, but required")
		return
	}
	r.judge(path, badDuration(d))
}

func checkTCPPool(r *reader, path string, t *networking.ConnectionPoolSettings_TCPSettings) {
	checkCount(r, field(path, "maxConnections"), t.MaxConnections)
	if t.ConnectTimeout != nil {
		r.judge(field(path, "connectTimeout"), badDuration(t.ConnectTimeout))
	}
	if t.MaxConnectionDuration != nil {
		r.judge(field(path, "maxConnectionDuration"), badDuration(t.MaxConnectionDuration))
	}
	if t.IdleTimeout != nil {
		r.judge(field(path, "idleTimeout"), badInterval(t.IdleTimeout))
	}
	if k := t.GetTcpKeepalive(); k != nil {
		if k.Time != nil {
			r.judge(field(path, "tcpKeepalive.time"), badDuration(k.Time))
		}
		if k.Interval != nil {
			r.judge(field(path, "tcpKeepalive.interval"), badDuration(k.Interval))
		}
	}
}

func checkCount(r *reader, path string, n int32) {
	if n < 0 {
		r.errorf(path, "want 0 or more, have %d", n)
	}
}

func checkOutlierDetection(r *reader, path string, o *networking.OutlierDetection) {
	if o == nil {
		return
	}
	if o.Interval != nil {
		r.judge(field(path, "interval"), badDuration(o.Interval))
	}
	if o.BaseEjectionTime != nil {
		r.judge(field(path, "baseEjectionTime"), badDuration(o.BaseEjectionTime))
	}
	r.judge(field(path, "maxEjectionPercent"), badPercent(float64(o.MaxEjectionPercent)))
	r.judge(field(path, "minHealthPercent"), badPercent(float64(o.MinHealthPercent)))
	r.judge(field(path, "failurePercentageThreshold"), badPercent(float64(o.GetFailurePercentageThreshold().GetValue())))
	for i, code := range o.OutlierDetectionHttpErrorCodes {
		if code < 100 || code > 599 {
			r.errorf(element(field(path, "outlierDetectionHttpErrorCodes"), i), "want 100 to 599, have %d", code)
		}
	}
	if n := o.ConsecutiveErrors; n < 0 { //nolint:staticcheck // deprecated by Istio, still read
		r.warnf(field(path, "consecutiveErrors"), "does nothing: want 0 or more, have %d", n)
	}
	if !o.SplitExternalLocalOriginErrors && o.ConsecutiveLocalOriginFailures.GetValue() > 0 {
		r.errorf(field(path, "consecutiveLocalOriginFailures"), "needs splitExternalLocalOriginErrors: true")
	}
}

func checkClientTLS(r *reader, path string, t *networking.ClientTLSSettings) {
	if t == nil {
		return
	}
	r.judge(field(path, "credentialName"), badConfigMap(t.CredentialName, r.meta.Namespace))
	if t.Mode == networking.ClientTLSSettings_DISABLE {
		return
	}
	mutual := t.Mode == networking.ClientTLSSettings_MUTUAL
	simple := t.Mode == networking.ClientTLSSettings_SIMPLE
	files := t.ClientCertificate + t.PrivateKey + t.CaCertificates + t.CaCrl
	switch unchecked := t.GetInsecureSkipVerify().GetValue(); {
	case (mutual || simple) && unchecked && (t.CaCertificates != "" || len(t.SubjectAltNames) > 0):
		r.errorf(field(path, "insecureSkipVerify"), "checks nothing, so caCertificates and subjectAltNames cannot be set with it")
	case simple && unchecked && t.CredentialName != "":
		r.errorf(field(path, "insecureSkipVerify"), "checks nothing, so credentialName cannot be set with it: with SIMPLE it only says what to check")
	case (mutual || simple) && t.CredentialName != "" && files != "":
		r.errorf(field(path, "credentialName"), "write credentialName or files, not both")
	case mutual && t.CredentialName == "" && t.ClientCertificate == "":
		r.errorf(field(path, "clientCertificate"), "missing, but required by MUTUAL")
	case mutual && t.CredentialName == "" && t.PrivateKey == "":
		r.errorf(field(path, "privateKey"), "missing, but required by MUTUAL")
	}
	r.warnf(field(path, "mode"), "%s is not served yet: calls under this policy fail rather than go in plaintext", t.Mode)
}

// badConfigMap judges the name of a credential that is in a ConfigMap, which must be one of the rule's own namespace.
func badConfigMap(credential, namespace string) string {
	name, ok := strings.CutPrefix(credential, "configmap://")
	if !ok {
		return ""
	}
	if parts := strings.Split(name, "/"); len(parts) < 2 || parts[0] != namespace || parts[1] == "" {
		return fmt.Sprintf("want configmap://%s/name, have %q", namespace, shorten(credential))
	}
	return ""
}

func checkSelector(r *reader, path string, s *istiotype.WorkloadSelector) {
	if s == nil {
		return
	}
	checkSelectorLabels(r, path, s.MatchLabels)
}

func checkSelectorLabels(r *reader, path string, labels map[string]string) {
	if len(labels) == 0 {
		r.warnf(path, "selects every workload of the namespace: it names no label")
	}
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		switch {
		case k == "":
			r.errorf(path, "a label must have a name")
		case strings.Contains(k+labels[k], "*"):
			r.errorf(path, "labels are matched exactly: %s=%s has a wildcard", shorten(k), shorten(labels[k]))
		case len(labels[k]) > maxLabel:
			r.errorf(path, "a value has at most %d characters, that of %s has %d", maxLabel, shorten(k), len(labels[k]))
		}
	}
}
