package balancer_test

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/orca"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/srvframe/meshtest"
)

// byUtilization is the policy, with reports that count at once.
const byUtilization = `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  trafficPolicy: {loadBalancer: {backendUtilization: {weightStabilizationPeriod: 0s}}}
`

// startReporting starts a server of reviews that says what load it has by gRPC's own
// means, by the report that fill fills, or as trailers that hold anything.
func startReporting(m *meshtest.Mesh, version string, fill func(orca.CallMetricsRecorder), trailers metadata.MD) {
	handler := func(_ any, ss grpc.ServerStream) error {
		if fill != nil {
			fill(orca.CallMetricsRecorderFromContext(ss.Context()))
		}
		ss.SetTrailer(trailers)
		if err := ss.RecvMsg(&wrapperspb.StringValue{}); err != nil {
			return err
		}
		return ss.SendMsg(wrapperspb.String(version))
	}
	m.Server("reviews:9080", map[string]string{"version": version}, func(grpc.ServiceRegistrar) {},
		orca.CallMetricsServerOption(nil), grpc.UnknownServiceHandler(handler))
}

// shares makes calls until both servers have answered, waits until weights are
// computed anew and counts the next.
func shares(t *testing.T, cc *grpc.ClientConn) map[string]int {
	t.Helper()
	for got := map[string]int{}; len(got) < 2; {
		got[call(t, cc, "")]++
		synctest.Wait() // for the connection to the other
	}
	time.Sleep(time.Second)
	got := map[string]int{}
	for range 100 {
		got[call(t, cc, "")]++
	}
	return got
}

// TestReportsOfGRPCServers: what the servers of grpc-go report counts.
func TestReportsOfGRPCServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := meshtest.New(t, byUtilization, meshtest.InMemory())
		load := func(utilization float64) func(orca.CallMetricsRecorder) {
			return func(r orca.CallMetricsRecorder) {
				r.SetApplicationUtilization(utilization)
				r.SetQPS(100)
			}
		}
		startReporting(m, "v1", load(0.1), nil)
		startReporting(m, "v2", load(0.9), nil)
		if got := shares(t, m.Client("reviews:9080")); got["v1"] < 88 || got["v1"] > 92 {
			t.Errorf("got %v, want nine in ten from the server with a ninth of the load", got)
		}
	})
}

// TestReportsThatCannotBeRead: they count as none, and calls are as good as without.
func TestReportsThatCannotBeRead(t *testing.T) {
	for name, trailers := range map[string]metadata.MD{
		"no protobuf": metadata.Pairs("endpoint-load-metrics-bin", "\xff\xff\xff"),
		"two of them": metadata.Pairs("endpoint-load-metrics-bin", "", "endpoint-load-metrics-bin", ""),
		"empty":       metadata.Pairs("endpoint-load-metrics-bin", ""),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := meshtest.New(t, byUtilization, meshtest.InMemory())
				startReporting(m, "v1", nil, trailers)
				startReporting(m, "v2", nil, nil)
				if got := shares(t, m.Client("reviews:9080")); got["v1"] != 50 {
					t.Errorf("got %v, want equal shares", got)
				}
			})
		})
	}
}
