package translate

import (
	"math"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"
)

// Istio's defaults.
const (
	defaultConnectTimeout = 10 * time.Second
	defaultBudgetPercent  = 20
	defaultBudgetRetries  = 3
)

// limits writes connection limits, the budget of retries and the connect timeout. What is not set does not limit: gRPC
// would take 1024 requests for that.
func (t *translation) limits(m *clusterv3.Cluster, p trafficPolicy) {
	tcp, http := p.pool.value.GetTcp(), p.pool.value.GetHttp()
	limits := &clusterv3.CircuitBreakers_Thresholds{MaxRequests: limit(http.GetHttp2MaxRequests())}
	m.CircuitBreakers = &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{limits}}
	if !t.client.ours() {
		return
	}
	limits.MaxConnections = limit(tcp.GetMaxConnections())
	limits.MaxPendingRequests = limit(http.GetHttp1MaxPendingRequests())
	limits.MaxRetries = limit(http.GetMaxRetries())
	limits.RetryBudget = retryBudget(p.budget.value)
	m.ConnectTimeout = durationpb.New(defaultConnectTimeout)
	if d := tcp.GetConnectTimeout(); d != nil {
		m.ConnectTimeout = d
	}
}

func limit(n int32) *wrapperspb.UInt32Value {
	if n <= 0 {
		return wrapperspb.UInt32(math.MaxUint32)
	}
	return wrapperspb.UInt32(uint32(n))
}

func retryBudget(b *networking.TrafficPolicy_RetryBudget) *clusterv3.CircuitBreakers_Thresholds_RetryBudget {
	if b == nil {
		return nil
	}
	out := &clusterv3.CircuitBreakers_Thresholds_RetryBudget{
		BudgetPercent:       &typev3.Percent{Value: defaultBudgetPercent},
		BudgetInterval:      b.GetBudgetInterval(),
		MinRetryConcurrency: wrapperspb.UInt32(defaultBudgetRetries),
	}
	if p := b.GetPercent(); p != nil {
		out.BudgetPercent.Value = p.GetValue()
	}
	if n := b.GetMinRetryConcurrency(); n > 0 {
		out.MinRetryConcurrency.Value = n
	}
	return out
}
