package config

import (
	"errors"
	"strings"
)

// DefaultDomain is the domain of the cluster where nothing else is said.
const DefaultDomain = "cluster.local"

// ResolveHost makes a host of the configuration fully qualified by Istio's rule: a name without a dot is a service of
// the object's own namespace and becomes name.namespace.svc.domain; a name with a dot, a wildcard and an IP address are
// taken as they are. What names of hosts may be written in, capitals and a dot at the end, is not in the result.
func ResolveHost(host, namespace, domain string) string {
	if host = PlainHost(host); host == "" || host == "*" || strings.Contains(host, ".") || isIP(host) {
		return host
	}
	if namespace == "" {
		namespace = DefaultNamespace
	}
	return host + "." + namespace + ".svc." + domain
}

// PlainHost returns a host as all the ways to write it are compared: names are not case-sensitive, and a dot at their end
// only says that they are whole.
func PlainHost(host string) string {
	if host = strings.ToLower(host); host == "*." { // is no name, and not every name either
		return host
	}
	return strings.TrimSuffix(host, ".")
}

// Candidates lists, in order of preference, the fully qualified names that a caller in a namespace may mean by a host:
// what Kubernetes' search path would try. "reviews" means the service in the caller's namespace, "reviews.prod" and
// "reviews.prod.svc" may be a name of their own or a service in the namespace prod.
func Candidates(host, namespace, domain string) []string {
	host = PlainHost(host)
	switch parts := strings.Split(host, "."); {
	case len(parts) == 1:
		return []string{ResolveHost(host, namespace, domain)}
	case len(parts) == 2:
		return []string{host, host + ".svc." + domain}
	case len(parts) == 3 && parts[2] == "svc":
		return []string{host, host + "." + domain}
	default:
		return []string{host}
	}
}

// CheckHost returns an error that says why a name is no host name, nil when it is one. Wildcards are none.
func CheckHost(host string) error {
	if bad := badFQDN(host); bad != "" {
		return errors.New(bad)
	}
	return nil
}

// IsDomain reports whether short names can be completed with a domain.
func IsDomain(domain string) bool { return CheckHost(domain) == nil && !strings.HasSuffix(domain, ".") }

// IsWildcard reports whether a host stands for several: "*" or "*.example.com".
func IsWildcard(host string) bool { return isWildcard(host) }
