package route

import (
	"slices"
	"strings"
)

// node is a place in the radix tree of paths. The text from the root to it is
// what a path must begin with to get here.
type node struct {
	label    string  // text from the parent to here; of the root, what all paths have in common
	first    int32   // least index in this subtree
	opening  int32   // least index in prefix
	prefix   group   // routes for every path that gets here
	exact    group   // routes for the path that ends here
	keys     string  // first bytes of the children's labels
	children []*node // parallel to keys
}

// find returns the least index below best whose route the request meets, or
// best.
func (n *node) find(l *lookup, best int32, fold bool) int32 {
	// Groups on the way are searched in the order of their first index, so that
	// a cheap early route saves looking at a dear late one.
	var way [8]*node
	count := 0
	if !hasPrefix(l.path, n.label, fold) {
		return best
	}
	rest := l.path[len(n.label):]
	for n != nil && n.first < best {
		if rest == "" {
			best = n.exact.find(l, best)
		}
		switch {
		case n.opening >= best:
		case count == len(way):
			best = n.prefix.find(l, best)
		default:
			insert(way[:count+1], n)
			count++
		}
		if rest == "" {
			break
		}
		n, rest = n.child(rest, fold)
	}
	for _, n := range way[:count] {
		if n.opening < best {
			best = n.prefix.find(l, best)
		}
	}
	return best
}

// insert puts n into a list sorted by opening, whose last place is free.
func insert(list []*node, n *node) {
	i := len(list) - 1
	for ; i > 0 && list[i-1].opening > n.opening; i-- {
		list[i] = list[i-1]
	}
	list[i] = n
}

// child returns the node that the rest of a path leads to, and what remains
// behind it.
func (n *node) child(rest string, fold bool) (*node, string) {
	c := rest[0]
	if fold {
		c = lower(c)
	}
	i := strings.IndexByte(n.keys, c)
	if i < 0 {
		return nil, ""
	}
	next := n.children[i]
	if !hasPrefix(rest, next.label, fold) {
		return nil, ""
	}
	return next, rest[len(next.label):]
}

// pathBuilder collects the candidates of one tree.
type pathBuilder struct {
	fold  bool
	texts map[string]*place
}

// place holds the candidates of one text.
type place struct{ prefix, exact []candidate }

func (b *pathBuilder) used() bool { return len(b.texts) > 0 }

func (b *pathBuilder) at(text string) *place {
	if b.fold {
		text = lowerText(text)
	}
	if b.texts == nil {
		b.texts = map[string]*place{}
	}
	p, ok := b.texts[text]
	if !ok {
		p = &place{}
		b.texts[text] = p
	}
	return p
}

func (b *pathBuilder) prefix(text string, c candidate) {
	p := b.at(text)
	p.prefix = append(p.prefix, c)
}

func (b *pathBuilder) exact(text string, c candidate) {
	p := b.at(text)
	p.exact = append(p.exact, c)
}

// build makes the tree.
func (b *pathBuilder) build() *node {
	texts := make([]string, 0, len(b.texts))
	for text := range b.texts {
		texts = append(texts, text)
	}
	slices.Sort(texts)
	depth := 0
	if len(texts) > 0 {
		depth = shared(texts[0], texts[len(texts)-1])
	}
	return b.node(texts, 0, depth)
}

// node makes the node that the first depth bytes of the texts lead to, which
// they share; texts are sorted. labelled is how many of these the parent has.
func (b *pathBuilder) node(texts []string, labelled, depth int) *node {
	n := &node{first: none, opening: none}
	if len(texts) == 0 {
		return n
	}
	n.label = texts[0][labelled:depth]
	if len(texts[0]) == depth {
		p := b.texts[texts[0]]
		n.prefix, n.exact = newGroup(p.prefix), newGroup(p.exact)
		n.opening = n.prefix.least()
		n.first = min(n.opening, n.exact.least())
		texts = texts[1:]
	}
	var keys []byte
	for len(texts) > 0 {
		key := texts[0][depth]
		end := 1
		for end < len(texts) && texts[end][depth] == key {
			end++
		}
		child := b.node(texts[:end], depth, depth+shared(texts[0][depth:], texts[end-1][depth:]))
		keys = append(keys, key)
		n.children = append(n.children, child)
		n.first = min(n.first, child.first)
		texts = texts[end:]
	}
	n.keys = string(keys)
	return n
}

// shared is the length of what two texts have in common at their beginning.
func shared(s, t string) int {
	i := 0
	for i < len(s) && i < len(t) && s[i] == t[i] {
		i++
	}
	return i
}
