package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// deref follows aliases to what they stand for. A chain of aliases cannot be a circle without a mapping or a sequence in
// it, which the depth limit of the readers catches.
func deref(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// entry is one key of a mapping with its value.
type entry struct {
	key   string
	at    *yaml.Node // the key's node
	value *yaml.Node // not an alias
}

// entries lists a mapping in order, merge keys ("<<") expanded: a key of the mapping itself wins over a merged one, an
// earlier merged one over a later. Keys written twice are listed once and given to twice.
func entries(n *yaml.Node, twice func(first, second *yaml.Node)) []entry {
	var own, merged []entry
	budget := mergeBudget
	seen := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := deref(n.Content[i]), deref(n.Content[i+1])
		if k.Tag == "!!merge" {
			merged = append(merged, mergedEntries(v, &budget)...)
			continue
		}
		key := keyText(k)
		if first, ok := seen[key]; ok {
			twice(first, k)
			continue
		}
		seen[key] = k
		own = append(own, entry{key, k, v})
	}
	for _, e := range merged {
		if seen[e.key] == nil {
			seen[e.key] = e.at
			own = append(own, e)
		}
	}
	return own
}

// mergeBudget bounds the keys that one mapping may merge: merged mappings may merge others, each several times.
const mergeBudget = 10000

func mergedEntries(n *yaml.Node, budget *int) []entry {
	var out []entry
	if *budget--; *budget < 0 {
		return nil
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			k, v := deref(n.Content[i]), deref(n.Content[i+1])
			if k.Tag == "!!merge" {
				out = append(out, mergedEntries(v, budget)...)
			} else {
				*budget--
				out = append(out, entry{keyText(k), k, v})
			}
		}
	case yaml.SequenceNode:
		for _, c := range n.Content {
			out = append(out, mergedEntries(deref(c), budget)...)
		}
	}
	return out
}

// keyText is a key as it is compared; keys that are no scalars get a text that no field has.
func keyText(k *yaml.Node) string {
	if k.Kind != yaml.ScalarNode {
		return "{...}"
	}
	return k.Value
}

// child finds a key of a mapping or an element of a sequence, nil when there is none.
func child(n *yaml.Node, segment string) *yaml.Node {
	n = deref(n)
	switch n.Kind {
	case yaml.MappingNode:
		for _, e := range entries(n, func(_, _ *yaml.Node) {}) {
			if e.key == segment {
				return e.value
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(segment); err == nil && i >= 0 && i < len(n.Content) {
			return deref(n.Content[i])
		}
	}
	return nil
}

// lineOf finds the line of a field path below the object's node: as far as the path can be followed. A path that ends at
// a key of a mapping gives the key's line.
func (s *Source) lineOf(path string) int {
	line, n := s.Line, s.node
	for _, segment := range segments(path) {
		if n == nil {
			break
		}
		at := n
		if n = child(at, segment); n == nil {
			break
		}
		line = n.Line
		if at.Kind == yaml.MappingNode {
			line = keyLine(at, segment, n.Line)
		}
	}
	return line
}

func keyLine(mapping *yaml.Node, key string, otherwise int) int {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if keyText(deref(mapping.Content[i])) == key {
			return mapping.Content[i].Line
		}
	}
	return otherwise
}

// segments cuts "spec.http[0].headers[x.y].exact" into its keys and indexes.
func segments(path string) []string {
	var out []string
	for path != "" {
		switch i := strings.IndexAny(path, ".["); {
		case i < 0:
			return append(out, path)
		case i > 0:
			out = append(out, path[:i])
			path = path[i:]
		case path[0] == '.':
			path = path[1:]
		default:
			end := strings.IndexByte(path, ']')
			if end < 0 {
				return out
			}
			out = append(out, path[1:end])
			path = path[end+1:]
		}
	}
	return out
}

// field and element make paths.
func field(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func element[K int | string](path string, key K) string { return fmt.Sprintf("%s[%v]", path, key) }

// describe says what a node holds, for messages: "the number 5".
func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Tag == "!!null":
		return "nothing"
	case n.Tag == "!!int", n.Tag == "!!float":
		return "the number " + n.Value
	case n.Tag == "!!bool":
		return "the boolean " + n.Value
	case n.Tag == "!!str", n.Tag == "!!timestamp", n.Tag == "!!merge":
		return "the string " + strconv.Quote(shorten(n.Value))
	default:
		return strconv.Quote(shorten(n.Value)) + " tagged " + shorten(n.Tag)
	}
}

func shorten(s string) string {
	if len(s) > 60 {
		return s[:60] + "…"
	}
	return s
}

// The functions below read one scalar; the string that they return says what was wanted when the node is something else.

func readString(n *yaml.Node) (string, string) {
	if n.Kind == yaml.ScalarNode {
		switch n.Tag {
		case "!!str", "!!timestamp", "!!merge":
			return n.Value, ""
		case "!!int", "!!float", "!!bool":
			return "", fmt.Sprintf("want a string, have %s; put it in quotes", describe(n))
		}
	}
	return "", "want a string, have " + describe(n)
}

func readBool(n *yaml.Node) (bool, string) {
	if n.Kind == yaml.ScalarNode && (n.Tag == "!!bool" || n.Tag == "!!str" && n.Style == 0) {
		switch strings.ToLower(n.Value) {
		case "true", "yes", "on", "y":
			return true, ""
		case "false", "no", "off", "n":
			return false, ""
		}
	}
	return false, "want true or false, have " + describe(n)
}

// readInt reads a whole number in a range. quoted allows it to be written as a string, as JSON writes 64-bit numbers.
func readInt(n *yaml.Node, low, high float64, quoted bool) (int64, string) {
	if quoted && n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
		if i, err := strconv.ParseInt(n.Value, 10, 64); err == nil {
			return i, outOfRange(float64(i), low, high, n)
		}
	}
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" && n.Tag != "!!float" {
		return 0, "want a whole number, have " + describe(n)
	}
	var i int64
	if n.Tag == "!!int" && n.Decode(&i) == nil {
		return i, outOfRange(float64(i), low, high, n)
	}
	var f float64
	if n.Decode(&f) != nil || f != math.Trunc(f) {
		return 0, "want a whole number, have " + describe(n)
	}
	return int64(f), outOfRange(f, low, high, n)
}

func outOfRange(f, low, high float64, n *yaml.Node) string {
	if f < low || f > high {
		return fmt.Sprintf("want a whole number from %.0f to %.0f, have %s", low, high, n.Value)
	}
	return ""
}

func readFloat(n *yaml.Node) (float64, string) {
	var f float64
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" && n.Tag != "!!float" || n.Decode(&f) != nil ||
		math.IsNaN(f) || math.IsInf(f, 0) {
		return 0, "want a number, have " + describe(n)
	}
	return f, ""
}

// nearest returns the word that someone who wrote "wrong" most likely meant, "" when none is close.
func nearest(wrong string, words []string) string {
	best, bestDistance := "", max(2, len(wrong)/3)+1
	plain := fold(wrong)
	for _, w := range words {
		if fold(w) == plain {
			return w
		}
		if d := distance(plain, fold(w)); d < bestDistance && d < len(w) { // else nothing of it is left
			best, bestDistance = w, d
		}
	}
	return best
}

// fold forgets case and separators: the commonest way to be wrong.
func fold(s string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "", " ", "").Replace(s))
}

// distance is the number of letters to insert, remove, replace or swap with their neighbour.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	before, last, now := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		now[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			now[j] = min(last[j]+1, now[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				now[j] = min(now[j], before[j-2]+1)
			}
		}
		before, last, now = last, now, before
	}
	return last[len(b)]
}
