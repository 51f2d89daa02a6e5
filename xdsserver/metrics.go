package xdsserver

import (
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics is what /metrics tells.
type metrics struct {
	registry    *prometheus.Registry
	pushes      *prometheus.CounterVec
	resources   *prometheus.CounterVec
	acks        *prometheus.CounterVec
	nacks       *prometheus.CounterVec
	clients     *prometheus.GaugeVec
	translate   *prometheus.HistogramVec
	reloads     *prometheus.CounterVec
	problems    *prometheus.GaugeVec
	leases      prometheus.Gauge
	lastSuccess prometheus.Gauge

	byType map[string]typeMetrics // for the types that are served
}

// typeMetrics is the metrics of one resource type, looked up once.
type typeMetrics struct {
	pushes, resources, acks, nacks prometheus.Counter
	translate                      prometheus.Observer
}

func newMetrics() *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "meshframe", Subsystem: "xdsserver", Name: name, Help: help}, labels)
	}
	gauge := func(name, help string) prometheus.GaugeOpts {
		return prometheus.GaugeOpts{Namespace: "meshframe", Subsystem: "xdsserver", Name: name, Help: help}
	}
	m := &metrics{
		registry:  prometheus.NewRegistry(),
		pushes:    counter("pushes_total", "Responses sent to clients, by resource type.", "type"),
		resources: counter("pushed_resources_total", "Resources in the responses sent to clients, by resource type.", "type"),
		acks:      counter("acks_total", "Responses that clients accepted, by resource type.", "type"),
		nacks:     counter("nacks_total", "Responses that clients refused, by resource type.", "type"),
		clients:   prometheus.NewGaugeVec(gauge("clients", "Connected streams, by client type and protocol."), []string{"kind", "protocol"}),
		translate: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "meshframe", Subsystem: "xdsserver", Name: "translate_seconds",
			Help:    "Time to translate one resource, by resource type.",
			Buckets: prometheus.ExponentialBuckets(10e-6, 4, 8),
		}, []string{"type"}),
		reloads:     counter("config_loads_total", "Times that the configuration was read, by result: applied, or partly when files were refused.", "result"),
		problems:    prometheus.NewGaugeVec(gauge("config_problems", "Problems in the configuration as it was last read, by severity."), []string{"severity"}),
		leases:      prometheus.NewGauge(gauge("registrations", "Registrations held by connected servers and by lost ones in their grace period.")),
		lastSuccess: prometheus.NewGauge(gauge("config_last_success_timestamp_seconds", "When the configuration was last read without an error.")),
	}
	m.byType = map[string]typeMetrics{}
	for _, url := range []string{resource.ListenerType, resource.RouteType, resource.ClusterType, resource.EndpointType} {
		label := shortType(url)
		m.byType[url] = typeMetrics{
			pushes: m.pushes.WithLabelValues(label), resources: m.resources.WithLabelValues(label),
			acks: m.acks.WithLabelValues(label), nacks: m.nacks.WithLabelValues(label),
			translate: m.translate.WithLabelValues(label),
		}
	}
	m.registry.MustRegister(m.pushes, m.resources, m.acks, m.nacks, m.clients, m.translate, m.reloads, m.problems, m.leases, m.lastSuccess)
	return m
}
