package balancer

import (
	"time"

	orcav3 "github.com/cncf/xds/go/xds/data/orca/v3"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/meshframe/meshframe/mesh/pick"
)

// loadReport is the trailer in which a gRPC server says what load it has (gRFC A51).
const loadReport = "endpoint-load-metrics-bin"

// readReport tells the policy what the server said of its load at the end of an
// attempt on host i. A report that cannot be read is none, as in gRPC.
func (p *clusterPicker) readReport(i int, trailer metadata.MD) {
	v := trailer[loadReport]
	if !p.weighs || len(v) != 1 {
		return
	}
	m := &orcav3.OrcaLoadReport{}
	if err := proto.Unmarshal([]byte(v[0]), m); err != nil {
		return
	}
	p.picker.Reports(i, time.Now(), &pick.Report{
		CPU: m.GetCpuUtilization(), Memory: m.GetMemUtilization(), Application: m.GetApplicationUtilization(),
		QPS: m.GetRpsFractional(), EPS: m.GetEps(),
		RequestCost: m.GetRequestCost(), Utilization: m.GetUtilization(), Named: m.GetNamedMetrics(),
	})
}
