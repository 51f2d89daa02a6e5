package translate

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/meshframe/meshframe/xdsserver/config"
	"github.com/meshframe/meshframe/xdsserver/registry"
)

// InboundPrefix begins the name of an inbound listener; the address that the server listens on follows.
const InboundPrefix = "xds.istio.io/grpc/lds/inbound/"

// RefusedPrefix begins the name of a cluster that does not exist and never will: calls are sent there to fail, and the
// rest of the name, which clients put into their error, says why.
const RefusedPrefix = "refused|"

// ClusterName is the name of a cluster, of its assignment and, without a subset, of a route configuration.
type ClusterName struct {
	Host   string
	Port   uint32
	Subset string
}

// String writes Istio's form: outbound|port|subset|host.
func (n ClusterName) String() string {
	return "outbound|" + strconv.FormatUint(uint64(n.Port), 10) + "|" + n.Subset + "|" + n.Host
}

// ParseClusterName reads what String writes.
func ParseClusterName(s string) (ClusterName, bool) {
	parts := strings.SplitN(s, "|", 4)
	if len(parts) != 4 || parts[0] != "outbound" || parts[3] == "" {
		return ClusterName{}, false
	}
	port, ok := parsePort(parts[1])
	return ClusterName{Host: parts[3], Port: port, Subset: parts[2]}, ok
}

func parsePort(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint32(n), err == nil && n > 0
}

// SplitHostPort reads the name of a listener for clients, "host:port". A name without a port has port 0. What cannot be
// a host is not ok; underscores, which some name servers have, are. Names are not case-sensitive, and come back in lower case.
func SplitHostPort(name string) (host string, port uint32, ok bool) {
	host, number, err := net.SplitHostPort(name)
	if err == nil {
		port, ok = parsePort(number)
	} else {
		host, ok = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]"), true
	}
	host = config.PlainHost(host)
	if !ok || !isHostName(host) {
		return "", 0, false
	}
	return host, port, true
}

// maxHost is how long the name of a host may be.
const maxHost = 253

func isHostName(host string) bool {
	if isIP(host) {
		return true
	}
	odd := strings.ContainsFunc(host, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.'
	})
	return !odd && len(host) <= maxHost && !slices.Contains(strings.Split(host, "."), "")
}

func isIP(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// domains lists the authorities that mean a port of a service to a client in a namespace, in Istio's order: the host, the
// host with the port, and then others.
func domains(s *registry.Service, port uint32, namespace, domain string) []string {
	var list []string
	add := func(host string) {
		list = append(list, host, net.JoinHostPort(host, strconv.FormatUint(uint64(port), 10)))
	}
	add(s.Host)
	if isIP(s.Host) {
		return list
	}
	add(s.Host + ".")
	if short, ok := strings.CutSuffix(s.Host, ".svc."+domain); ok {
		name, ns, ok := strings.Cut(short, ".")
		if ok && ns == namespace {
			add(name)
		}
		add(short)
		add(short + ".svc")
	}
	for _, a := range s.Addresses {
		if isIP(a) {
			add(a)
		}
	}
	return list
}
