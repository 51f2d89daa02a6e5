package route

import (
	"math/bits"
	"regexp"
	"slices"
)

// candidate is what remains to be checked of a route once its place in the tree
// is reached.
type candidate struct {
	index    int32
	path     *regexp.Regexp // nil if the tree decided the path
	headers  []condition
	query    []QueryMatch
	fraction uint32 // in millionths
}

// condition is a header match with its name resolved.
type condition struct {
	name  *headerName
	match *HeaderMatch
}

// certain reports whether nothing remains to be checked.
func (c *candidate) certain() bool {
	return c.path == nil && len(c.headers) == 0 && len(c.query) == 0 && c.fraction >= million
}

func (c *candidate) holds(l *lookup) bool {
	for i := range c.headers {
		h := &c.headers[i]
		value, ok := l.header(h.name)
		if !h.match.holds(value, ok) {
			return false
		}
	}
	if c.path != nil && !c.path.MatchString(l.path) {
		return false
	}
	for i := range c.query {
		if l.request.IsGRPC || !c.query[i].matches(l.query) {
			return false
		}
	}
	return drawn(c.fraction, l.rnd)
}

// million is the denominator of fractions.
const million = 1_000_000

// drawn reports whether an event of the given probability in millionths happens.
func drawn(fraction uint32, rnd func() uint64) bool {
	if fraction >= million {
		return true
	}
	n, _ := bits.Mul64(rnd(), million)
	return n < uint64(fraction)
}

// group holds candidates in parts, of which a lookup needs to go through one
// list at most: the candidates that compare a header with a fixed value are
// found by the value of that header. There is a part for each header that is
// compared so by more than one candidate, in the order of their first indices,
// and last a part with the others, as a list. An empty group is nil.
type group []part

// part is a part of a group.
type part struct {
	first int32       // least index
	list  []candidate // in order; only if header is nil

	header *headerName
	values *index[group] // by value of header, that condition taken out
	absent group         // for requests without the header
}

// newGroup makes the group of candidates, which are in order.
func newGroup(list []candidate) group {
	switch len(list) {
	case 0:
		return nil
	case 1:
		return group{{first: list[0].index, list: list}}
	}
	for i := range list {
		if list[i].certain() {
			list = list[:i+1] // none behind it can be first
			break
		}
	}
	uses := exactUses(list)
	var headers []*headerName // in the order of their first candidate
	byHeader := map[*headerName][]candidate{}
	var others []candidate
	for _, c := range list {
		name := mostUsed(c.headers, uses)
		switch {
		case name == nil:
			others = append(others, c)
			continue
		case byHeader[name] == nil:
			headers = append(headers, name)
		}
		byHeader[name] = append(byHeader[name], c)
	}
	var g group
	for _, name := range headers {
		g = append(g, indexedPart(name, byHeader[name]))
	}
	if len(others) > 0 {
		g = append(g, part{first: others[0].index, list: others})
	}
	return g
}

// indexedPart sorts candidates by the value that they want of the header.
func indexedPart(name *headerName, list []candidate) part {
	p := part{first: list[0].index, header: name}
	var absent []candidate
	byValue := map[string][]candidate{}
	for _, c := range list {
		at := slices.IndexFunc(c.headers, func(h condition) bool { return h.name == name && h.fixed() })
		match := c.headers[at].match
		c.headers = slices.Concat(c.headers[:at], c.headers[at+1:])
		byValue[match.Value] = append(byValue[match.Value], c)
		if match.Value == "" && match.TreatMissingAsEmpty {
			absent = append(absent, c)
		}
	}
	values := make(map[string]group, len(byValue))
	for value, candidates := range byValue {
		values[value] = newGroup(candidates)
	}
	p.values, p.absent = newIndex(values), newGroup(absent)
	return p
}

// least is the first index, also of an empty group.
func (g group) least() int32 {
	least := int32(none)
	for i := range g {
		least = min(least, g[i].first)
	}
	return least
}

// find returns the least index below best whose candidate holds, or best.
func (g group) find(l *lookup, best int32) int32 {
	for i := range g {
		p := &g[i]
		switch {
		case p.first >= best:
		case p.header == nil:
			best = scan(p.list, l, best)
		default:
			best = p.lookup(l).find(l, best)
		}
	}
	return best
}

func scan(list []candidate, l *lookup, best int32) int32 {
	for i := range list {
		c := &list[i]
		if c.index >= best {
			break
		}
		if c.holds(l) {
			return c.index
		}
	}
	return best
}

// lookup returns the candidates for the request's value of the header.
func (p *part) lookup(l *lookup) group {
	value, ok := l.header(p.header)
	if !ok {
		return p.absent
	}
	g, _ := p.values.get(value)
	return g
}

// fixed reports whether the condition compares the header with a fixed value.
func (c *condition) fixed() bool {
	return c.match.Kind == StringExact && !c.match.IgnoreCase && !c.match.Invert
}

// exactUses counts the candidates that compare each header with a fixed value.
func exactUses(list []candidate) map[*headerName]int {
	uses := map[*headerName]int{}
	last := map[*headerName]int32{}
	for i := range list {
		for j := range list[i].headers {
			h := &list[i].headers[j]
			if at, seen := last[h.name]; h.fixed() && (!seen || at != list[i].index) {
				uses[h.name]++
				last[h.name] = list[i].index
			}
		}
	}
	return uses
}

// mostUsed returns the header that a candidate compares with a fixed value and
// that most others do too; nil if no other does.
func mostUsed(headers []condition, uses map[*headerName]int) *headerName {
	var best *headerName
	for i := range headers {
		name := headers[i].name
		if headers[i].fixed() && uses[name] > max(uses[best], 1) {
			best = name
		}
	}
	return best
}
