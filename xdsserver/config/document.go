package config

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// document is one parsed YAML or JSON document: a mapping, a sequence or a scalar, never empty.
type document struct {
	root *yaml.Node
}

// syntaxError is a place where the text is not YAML or JSON.
type syntaxError struct {
	line    int
	message string
}

// readDocuments splits a file into its documents. A document that cannot be read costs only itself: the ones after it
// are read too, so that one look shows every error.
func readDocuments(name string, data []byte) (docs []document, bad []syntaxError) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if strings.HasSuffix(name, ".json") {
		return readJSON(data)
	}
	for _, c := range splitYAML(data) {
		found, err := readYAML(c)
		docs = append(docs, found...)
		if err != nil {
			bad = append(bad, *err)
		}
	}
	return docs, bad
}

// chunk is the text between two document markers.
type chunk struct {
	text []byte
	line int // of its first line, from 1
}

// splitYAML cuts at lines that start with "---": YAML allows nothing else there to begin so. A marker that only
// directives and comments precede belongs to the document that they announce.
func splitYAML(data []byte) []chunk {
	var out []chunk
	start, startLine, directive, content := 0, 1, false, false
	line := 0
	for at := 0; at < len(data); {
		end := len(data)
		if n := bytes.IndexByte(data[at:], '\n'); n >= 0 {
			end = at + n + 1
		}
		text := data[at:end]
		line++
		switch {
		case isMarker(text):
			if content || !directive {
				if at > start {
					out = append(out, chunk{data[start:at], startLine})
				}
				start, startLine = at, line
			}
			directive, content = false, true
		case bytes.HasPrefix(text, []byte("%")) && !content:
			directive = true
		case len(bytes.TrimSpace(text)) > 0 && !bytes.HasPrefix(bytes.TrimSpace(text), []byte("#")):
			content = true
		}
		at = end
	}
	return append(out, chunk{data[start:], startLine})
}

func isMarker(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte("---"))
	return ok && (len(rest) == 0 || strings.IndexByte(" \t\r\n", rest[0]) >= 0)
}

// readYAML parses one chunk; it holds several documents only where they are ended by "...".
func readYAML(c chunk) ([]document, *syntaxError) {
	var docs []document
	dec := yaml.NewDecoder(bytes.NewReader(c.text))
	for {
		var n yaml.Node
		switch err := dec.Decode(&n); {
		case errors.Is(err, io.EOF):
			return docs, nil
		case err != nil:
			return docs, yamlError(c, err)
		}
		if n.Kind != yaml.DocumentNode || len(n.Content) != 1 || isNull(n.Content[0]) {
			continue
		}
		shiftLines(&n, c.line-1)
		docs = append(docs, document{n.Content[0]})
	}
}

// shiftLines turns line numbers of a chunk into line numbers of the file. It does not follow aliases: what they stand
// for is in the tree itself.
func shiftLines(n *yaml.Node, by int) {
	if by == 0 {
		return
	}
	n.Line += by
	for _, c := range n.Content {
		shiftLines(c, by)
	}
}

var (
	yamlErrorLine  = regexp.MustCompile(`^yaml: line (\d+): `)
	yamlErrorAlias = regexp.MustCompile(`unknown anchor '(.*)' referenced`)
)

// yamlError gives a parser's error a line and, for the mistakes people make, plainer words.
func yamlError(c chunk, err error) *syntaxError {
	lines := strings.Split(string(c.text), "\n")
	message := err.Error()
	at := 1
	if m := yamlErrorLine.FindStringSubmatch(message); m != nil {
		at, _ = strconv.Atoi(m[1])
		message = message[len(m[0]):]
	} else if m := yamlErrorAlias.FindStringSubmatch(message); m != nil {
		at = lineWith(lines, 1, func(l string) bool { return strings.Contains(l, "*"+m[1]) })
	} else if strings.Contains(message, "control characters") || strings.Contains(message, "UTF-8") {
		at = lineWith(lines, 1, func(l string) bool { return strings.ContainsFunc(l, notYAML) })
	}
	message = strings.TrimPrefix(message, "yaml: ")
	at = min(max(at, 1), len(lines))
	if tab := lineWith(lines, at-1, tabIndented); tab > 0 && tab <= at+1 {
		at, message = tab, "a TAB cannot indent YAML; use spaces"
	}
	return &syntaxError{line: c.line + at - 1, message: "not valid YAML: " + message}
}

// lineWith returns the number of the first line from a line on that fits, 0 when none does.
func lineWith(lines []string, from int, fits func(string) bool) int {
	for i := max(from, 1); i <= len(lines); i++ {
		if fits(lines[i-1]) {
			return i
		}
	}
	return 0
}

func tabIndented(line string) bool {
	indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
	return strings.Contains(indent, "\t") && strings.TrimSpace(line) != ""
}

func notYAML(r rune) bool {
	return r == '\uFFFD' || r < ' ' && r != '\t' && r != '\r' || r == 0x7F
}

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Tag == "!!null"
}
