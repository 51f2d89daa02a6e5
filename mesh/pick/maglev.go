package pick

import "github.com/cespare/xxhash/v2"

// newTable fills a Maglev table as Envoy does: members take turns, heavier ones
// more often, and each turn is the next free slot of the member's own
// permutation of all slots.
func newTable(s *circleSpec) *circle {
	size := s.minSize
	c := &circle{spec: s, owners: make([]int32, size)}
	for i := range c.owners {
		c.owners[i] = -1
	}
	heaviest := 0.0
	for i := range s.members {
		heaviest = max(heaviest, s.members[i].weight)
	}
	turns := newPermutations(s)
	due := make([]float64, len(turns)) // the weight at which a member's next turn comes
	for round, filled := 1.0, uint64(0); filled < size; round++ {
		for i := range turns {
			if weight := s.members[i].weight; filled == size || round*weight < due[i] {
				continue
			}
			due[i] += heaviest
			c.owners[turns[i].nextFree(c.owners)] = int32(i)
			filled++
		}
	}
	return c
}

// permutation is an order of all slots of a table.
type permutation struct{ at, skip, size uint64 }

func newPermutations(s *circleSpec) []permutation {
	list := make([]permutation, len(s.members))
	seeded := xxhash.New()
	for i := range s.members {
		key := s.members[i].key
		seeded.ResetWithSeed(1)
		_, _ = seeded.WriteString(key) // cannot fail
		list[i] = permutation{xxhash.Sum64String(key) % s.minSize, seeded.Sum64()%(s.minSize-1) + 1, s.minSize}
	}
	return list
}

// nextFree returns the next slot of the permutation without an owner.
func (p *permutation) nextFree(owners []int32) uint64 {
	for {
		slot := p.at
		if p.at += p.skip; p.at >= p.size {
			p.at -= p.size
		}
		if owners[slot] < 0 {
			return slot
		}
	}
}
