package support

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Release is a release of a client. The zero Release is the newest.
type Release struct{ Major, Minor, Patch uint16 }

// String returns a text such as "1.50" or "1.37.1".
func (r Release) String() string {
	if r.Patch == 0 {
		return fmt.Sprintf("%d.%d", r.Major, r.Minor)
	}
	return fmt.Sprintf("%d.%d.%d", r.Major, r.Minor, r.Patch)
}

// Before reports whether r is older than o.
func (r Release) Before(o Release) bool { return r.compare(o) < 0 }

func (r Release) compare(o Release) int {
	return cmp.Or(cmp.Compare(r.Major, o.Major), cmp.Compare(r.Minor, o.Minor), cmp.Compare(r.Patch, o.Patch))
}

// ParseRelease reads a text such as "1.50", "1.37.1" or "v1.85.0-dev".
func ParseRelease(s string) (r Release, ok bool) {
	parts := strings.SplitN(strings.TrimPrefix(s, "v"), ".", 3)
	if len(parts) < 2 {
		return Release{}, false
	}
	for i, n := range []*uint16{&r.Major, &r.Minor, &r.Patch} {
		if i == len(parts) {
			break
		}
		digits := parts[i]
		if i == len(parts)-1 {
			digits = digits[:len(digits)-len(strings.TrimLeft(digits, "0123456789"))]
		}
		v, err := strconv.ParseUint(digits, 10, 16)
		if err != nil {
			return Release{}, false
		}
		*n = uint16(v)
	}
	return r, r != Release{}
}

// ParseCoreRelease reads the version of the C core, such as "29.0.0", which has numbers of its own: 15 was released with
// gRPC 1.37, 29 with 1.51. The numbers went up with each release between; of later ones the release is that or newer, and of
// older ones it is older than 1.37.
func ParseCoreRelease(s string) (Release, bool) {
	r, ok := ParseRelease(s)
	if !ok {
		return Release{}, false
	}
	return Release{Major: 1, Minor: r.Major + 22}, true
}

// Feature is something that gRPC's own clients do from some release on.
type Feature uint8

const (
	// Retries are gRFC A44.
	Retries Feature = iota + 1
	// RingHash is gRFC A42. Clients without it refuse the cluster.
	RingHash
	// NamedClusters are clusters of type LOGICAL_DNS, and aggregates, gRFC A37. Clients without them refuse the cluster.
	NamedClusters
	// LeastRequest is gRFC A48. Clients without it refuse the cluster.
	LeastRequest
	// Ejection is outlier detection by comparison, gRFC A50.
	Ejection
	// Utilization is weights by what endpoints report of their load, gRFC A58.
	Utilization
	// ExactTimeouts are timeouts of routes, gRFC A31, that count from the beginning of the call. The C core counts them from
	// one to two seconds earlier (grpc/grpc#34547): with shorter ones all calls fail.
	ExactTimeouts
)

// never is for what a client does in no release.
var never = Release{Major: 9999}

// feature is a row of the table of releases.
type feature struct {
	Feature
	name, grfc string
	since      [types]Release
}

// features say from which release on each of gRPC's own clients does what xdsserver makes a difference for. Sources:
// gRPC's table of xDS features and, for Go, the sources of the releases: its default for NamedClusters changed in 1.48,
// that for LeastRequest in 1.73.
var features = []feature{
	{Retries, "retries", "A44", [types]Release{GRPCCore: {1, 40, 0}, GRPCJava: {1, 40, 1}, GRPCGo: {1, 41, 0}, GRPCNode: {1, 8, 0}}},
	{RingHash, "ring hash", "A42", [types]Release{GRPCCore: {1, 40, 0}, GRPCJava: {1, 40, 1}, GRPCGo: {1, 41, 0}, GRPCNode: {1, 10, 0}}},
	{NamedClusters, "clusters by name (DNS)", "A37", [types]Release{GRPCCore: {1, 47, 0}, GRPCJava: {1, 39, 0}, GRPCGo: {1, 48, 0}, GRPCNode: {1, 9, 0}}},
	{LeastRequest, "least request", "A48", [types]Release{GRPCCore: never, GRPCJava: {1, 48, 0}, GRPCGo: {1, 73, 0}, GRPCNode: never}},
	{Ejection, "outlier detection", "A50", [types]Release{GRPCCore: {1, 51, 0}, GRPCJava: {1, 49, 0}, GRPCGo: {1, 50, 0}, GRPCNode: {1, 7, 0}}},
	{Utilization, "weights by utilization", "A58", [types]Release{GRPCCore: {1, 55, 0}, GRPCJava: {1, 54, 0}, GRPCGo: {1, 56, 0}, GRPCNode: {1, 14, 0}}},
	{ExactTimeouts, "timeouts that are exact", "A31", [types]Release{GRPCCore: never, GRPCJava: {1, 37, 1}, GRPCGo: {1, 37, 0}, GRPCNode: {1, 4, 0}}},
}

// oldest are the first releases that are served. Those before do not know faults, timeouts and limits of requests (gRFCs
// A33, A31, A32), or not even the version of the protocol.
var oldest = [types]Release{GRPCCore: {1, 37, 0}, GRPCJava: {1, 37, 1}, GRPCGo: {1, 37, 0}, GRPCNode: {1, 4, 0}}

func (f Feature) row() *feature { return &features[f-1] }

// Knows reports whether the client does something that gRPC's own clients do from some release on.
func (c Client) Knows(f Feature) bool {
	if !c.GRPC() {
		return true
	}
	since := f.row().since[c.Type]
	return since != never && (c.Release == Release{} || !c.Release.Before(since))
}

// Canonical returns the client of the same type that stands for all releases that do the same: the newest or, of older
// ones, the first.
func (c Client) Canonical() Client {
	if !c.GRPC() || c.Release == (Release{}) {
		return Client{Type: c.Type}
	}
	steps := []Release{oldest[c.Type]}
	for _, f := range features {
		if since := f.since[c.Type]; since != never {
			steps = append(steps, since)
		}
	}
	slices.SortFunc(steps, Release.compare)
	if !c.Release.Before(steps[len(steps)-1]) {
		return Client{Type: c.Type}
	}
	first := c.Release // older than any that is served
	for _, s := range steps {
		if !c.Release.Before(s) {
			first = s
		}
	}
	return Client{Type: c.Type, Release: first}
}
