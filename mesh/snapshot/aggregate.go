package snapshot

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/meshframe/meshframe/mesh/pick"
)

var errNoMember = errors.New("none of the clusters behind it exists")

// MaxDepth bounds how deep aggregate clusters may stand behind each other (gRFC
// A37).
const MaxDepth = 16

// Behind returns the clusters that calls to cluster name may lead to: those of
// an aggregate cluster and of a fallback. c is the resource as it has arrived,
// nil if none has; where it was refused, what prev has in force counts.
func Behind(prev *Snapshot, name string, c *Cluster) []string {
	if c != nil && c.Refused != nil {
		c = nil
		if prev != nil {
			if up := prev.Upstream(name); up != nil {
				c = up.Cluster
			}
		}
	}
	if c == nil {
		return nil
	}
	names := slices.Clone(c.Aggregate)
	if c.Fallback != nil && c.Fallback.Cluster != "" {
		names = append(names, c.Fallback.Cluster)
	}
	return names
}

// members returns the upstreams behind an aggregate cluster, in order; none for
// other clusters.
func (b *upstreamBuilder) members(c *Cluster) ([]*Upstream, error) {
	if c == nil || c.Discovery != Aggregate {
		return nil, nil
	}
	b.depth++
	defer func() { b.depth-- }()
	if b.depth > MaxDepth {
		return nil, fmt.Errorf("more than %d aggregate clusters stand behind each other", MaxDepth)
	}
	var members []*Upstream
	for _, name := range c.Aggregate {
		up := b.build(name)
		if up == nil {
			return nil, fmt.Errorf("aggregate cluster %s contains itself", name)
		}
		members = append(members, up)
	}
	return members, nil
}

// setMembers gives an aggregate upstream the hosts of its members. The
// priorities of each member come after those of the one before it, so that a
// member is used when the ones before it have no usable host. A cluster that
// stands behind it twice counts at its first place.
func (u *Upstream) setMembers() error {
	seen := map[*Upstream]bool{}
	var first error
	var offset uint32
	usable := false
	for _, m := range u.input.members {
		if m.Err != nil {
			first = firstError(first, m.Err)
			continue
		}
		usable = true
		offset += u.addMember(m, offset, seen)
	}
	if !usable {
		return fmt.Errorf("%w: %w", errNoMember, firstError(first, errNoCluster))
	}
	return nil
}

// addMember adds the hosts of a member behind the given priority and returns
// how many priorities they take.
func (u *Upstream) addMember(m *Upstream, offset uint32, seen map[*Upstream]bool) uint32 {
	var levels uint32
	added := map[*Upstream]bool{}
	for i, h := range m.Hosts {
		owner := m.Owner(i)
		if seen[owner] {
			continue
		}
		added[owner] = true
		levels = max(levels, h.Priority+1)
		h.Priority += offset
		u.Hosts = append(u.Hosts, h)
		u.owners = append(u.owners, owner)
	}
	for owner := range added {
		seen[owner] = true
	}
	return levels
}

// inherit returns the configuration of an aggregate cluster: load balancing
// and outlier detection of its members where it has none of its own. Of members that
// differ in their load balancing the first counts, for the hosts of all.
func (c *Cluster) inherit(members []*Upstream) *Cluster {
	own := *c
	for _, m := range members {
		if m.Cluster == nil {
			continue
		}
		if own.LB == (pick.Config{OverrideHealth: c.LB.OverrideHealth}) {
			own.LB = m.Cluster.LB
			own.LB.OverrideHealth = cmp.Or(c.LB.OverrideHealth, own.LB.OverrideHealth)
		}
		if own.Outlier == nil {
			own.Outlier = m.Cluster.Outlier
		}
	}
	return &own
}

func firstError(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// distinctOwners returns the clusters whose hosts an aggregate cluster has.
func (u *Upstream) distinctOwners() []*Upstream {
	var owners []*Upstream
	for _, o := range u.owners {
		if !slices.Contains(owners, o) {
			owners = append(owners, o)
		}
	}
	return owners
}
