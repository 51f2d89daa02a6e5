package config

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

func checkService(r *reader, v any) {
	s := v.(*corev1.Service)
	types := []corev1.ServiceType{"", corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName}
	if !slices.Contains(types, s.Spec.Type) {
		r.errorf("spec.type", "want ClusterIP, NodePort, LoadBalancer or ExternalName, have %q", shorten(string(s.Spec.Type)))
	}
	external := s.Spec.Type == corev1.ServiceTypeExternalName
	switch {
	case external && !isIP(s.Spec.ExternalName):
		r.judge("spec.externalName", badFQDN(s.Spec.ExternalName))
	case !external && s.Spec.ExternalName != "":
		r.errorf("spec.externalName", "goes with type: ExternalName only")
	}
	if len(s.Spec.Ports) == 0 && !external && s.Spec.ClusterIP != corev1.ClusterIPNone {
		r.errorf("spec.ports", "missing, but required")
	}
	checkServicePortList(r, s.Spec.Ports)
	checkExportAnnotation(r)
}

func checkServicePortList(r *reader, ports []corev1.ServicePort) {
	type key struct {
		port     int32
		protocol corev1.Protocol
	}
	names, numbers := map[string]bool{}, map[key]bool{}
	for i, p := range ports {
		path := element("spec.ports", i)
		k := key{p.Port, protocolOf(p.Protocol)}
		switch {
		case p.Name == "" && len(ports) > 1:
			r.errorf(field(path, "name"), "missing, but required where there are several ports")
		case p.Name != "" && names[p.Name]:
			r.errorf(field(path, "name"), "the port name %q is written twice", shorten(p.Name))
		case numbers[k]:
			r.errorf(field(path, "port"), "the port %d is written twice", p.Port)
		}
		names[p.Name], numbers[k] = true, true
		if p.Name != "" {
			r.judge(field(path, "name"), badPortName(p.Name))
		}
		r.judge(field(path, "port"), badPort(uint32(max(p.Port, 0))))
		r.judge(field(path, "protocol"), badTransport(p.Protocol))
		if t := p.TargetPort; t.IntVal != 0 {
			r.judge(field(path, "targetPort"), badPort(uint32(max(t.IntVal, 0))))
		} else if t.StrVal != "" {
			r.judge(field(path, "targetPort"), badPortName(t.StrVal))
		}
	}
}

// protocolOf is the transport protocol with its default.
func protocolOf(p corev1.Protocol) corev1.Protocol {
	if p == "" {
		return corev1.ProtocolTCP
	}
	return p
}

func badTransport(p corev1.Protocol) string {
	switch p {
	case "", corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP:
		return ""
	}
	return "want TCP, UDP or SCTP, have " + shorten(string(p))
}

func checkEndpointSlice(r *reader, v any) {
	s := v.(*discoveryv1.EndpointSlice)
	if s.Labels[discoveryv1.LabelServiceName] == "" {
		r.warnf("metadata.labels", "belongs to no service: it has no label %s", discoveryv1.LabelServiceName)
	}
	switch s.AddressType {
	case discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeFQDN:
	default:
		r.errorf("addressType", "want IPv4, IPv6 or FQDN, have %q", shorten(string(s.AddressType)))
	}
	for i, e := range s.Endpoints {
		path := field(element("endpoints", i), "addresses")
		if len(e.Addresses) == 0 {
			r.errorf(path, "missing, but required")
		}
		for j, a := range e.Addresses {
			switch {
			case s.AddressType == discoveryv1.AddressTypeFQDN:
				r.judge(element(path, j), badFQDN(a))
			case !isIP(a):
				r.errorf(element(path, j), "%q is no IP address", shorten(a))
			}
		}
	}
	for i, p := range s.Ports {
		path := element("ports", i)
		if p.Port != nil {
			r.judge(field(path, "port"), badPort(uint32(max(*p.Port, 0))))
		}
		if p.Protocol != nil {
			r.judge(field(path, "protocol"), badTransport(*p.Protocol))
		}
	}
}
