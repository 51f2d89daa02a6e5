package support

const (
	listensItself = "servers listen where their program says"
	noListener    = "calls name their service: clients have no listener"
)

var sidecarRows = []row{
	both("workloadSelector", works()),
	both("ingress[]", degraded(listensItself)),
	both("egress[].hosts[]", works()),
	both("egress[].port.number", works("the ports of services that are seen")),
	both("egress[].port.protocol", works("that of the service counts")),
	both("egress[].port.name", works()),
	both("egress[].port.targetPort", degraded(noListener)),
	both("egress[].bind", degraded(noListener)),
	both("egress[].captureMode", degraded(noListener)),
	both("outboundTrafficPolicy.mode", works()),
	both("outboundTrafficPolicy.egressProxy", degraded("calls to hosts that are no service go directly")),
	both("inboundConnectionPool", degraded("servers have no such limits: write maxConcurrentRequests in a MeshPolicy")),
}
