// Package registry knows which services exist and where their endpoints are. It joins three sources into one immutable
// Index: the configuration (ServiceEntry, WorkloadEntry, Kubernetes Service and EndpointSlice), names that it resolves
// by DNS, and servers that register themselves while they serve.
//
// It is the second stage of the control plane:
//
//	config.Model ─▶ Registry ─▶ Index ─▶ xdsserver/translate
//	Register     ─▶
//
// One change costs work in proportion to the service that it concerns; the Index is published through one atomic
// pointer and subscribers are told which hosts changed. Unlike xdsserver/config this package does I/O: it asks DNS and
// keeps registrations on disk.
//
// This package makes no promise of a stable API.
package registry
