package route

import (
	"math/bits"
	"regexp"
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

// group is an ordered list of candidates. Those that compare one header with a
// fixed value are found by the value of that header; the others are the rest,
// itself a group, which may go by another header; the last group of this chain
// is a list to go through. A nil group is empty.
type group struct {
	first int32 // least index

	list []candidate // if header is nil

	header *headerName
	values *index[*group] // by value of header, that condition taken out
	absent *group         // for requests without the header
	rest   *group         // candidates that do not compare header
}

// newGroup makes the group of candidates, which are in order. nil if there are
// none.
func newGroup(list []candidate) *group {
	if len(list) == 0 {
		return nil
	}
	for i := range list {
		if list[i].certain() {
			list = list[:i+1] // none behind it can be first
			break
		}
	}
	g := &group{first: list[0].index}
	name := commonHeader(list)
	if name == nil {
		g.list = list
		return g
	}
	g.header = name
	g.split(list)
	return g
}

// least is the first index, also of an empty group.
func (g *group) least() int32 {
	if g == nil {
		return none
	}
	return g.first
}

// split sorts candidates by the value that they want of g.header.
func (g *group) split(list []candidate) {
	var rest, absent []candidate
	byValue := map[string][]candidate{}
	for _, c := range list {
		at := exactOn(c.headers, g.header)
		if at < 0 {
			rest = append(rest, c)
			continue
		}
		match := c.headers[at].match
		c.headers = without(c.headers, at)
		byValue[match.Value] = append(byValue[match.Value], c)
		if match.Value == "" && match.TreatMissingAsEmpty {
			absent = append(absent, c)
		}
	}
	values := make(map[string]*group, len(byValue))
	for value, candidates := range byValue {
		values[value] = newGroup(candidates)
	}
	g.values = newIndex(values)
	g.absent, g.rest = newGroup(absent), newGroup(rest)
}

// find returns the least index below best whose candidate holds, or best.
func (g *group) find(l *lookup, best int32) int32 {
	for g != nil && g.first < best {
		if g.header == nil {
			return g.scan(l, best)
		}
		sub, rest := g.lookup(l), g.rest
		if sub.least() > rest.least() {
			sub, rest = rest, sub
		}
		best = sub.find(l, best)
		g = rest
	}
	return best
}

func (g *group) scan(l *lookup, best int32) int32 {
	for i := range g.list {
		c := &g.list[i]
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
func (g *group) lookup(l *lookup) *group {
	value, ok := l.header(g.header)
	if !ok {
		return g.absent
	}
	sub, _ := g.values.get(value)
	return sub
}

// commonHeader returns the header that most candidates compare with a fixed
// value, nil if no two compare the same one.
func commonHeader(list []candidate) *headerName {
	counts := map[*headerName]int{}
	var best *headerName
	for i := range list {
		headers := list[i].headers
		for j := range headers {
			name := headers[j].name
			if exactOn(headers, name) != j {
				continue
			}
			counts[name]++
			if counts[name] > max(counts[best], 1) {
				best = name
			}
		}
	}
	return best
}

// exactOn returns the position of the first condition that wants a fixed value
// of the header, or -1.
func exactOn(headers []condition, name *headerName) int {
	for i := range headers {
		m := headers[i].match
		if headers[i].name == name && m.Kind == StringExact && !m.IgnoreCase && !m.Invert {
			return i
		}
	}
	return -1
}

func without(headers []condition, at int) []condition {
	if len(headers) == 1 {
		return nil
	}
	out := make([]condition, 0, len(headers)-1)
	out = append(out, headers[:at]...)
	return append(out, headers[at+1:]...)
}
