package config

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// syntaxError is a place where the text is not YAML or JSON.
type syntaxError struct {
	line    int
	message string
}

// byteOrderMark begins the files of some editors.
const byteOrderMark = "\xef\xbb\xbf"

// readDocuments splits a file into its documents, none of them empty. One that cannot be read costs only itself: the ones
// after it are read too, so that one look shows every error.
func readDocuments(name string, data []byte) (docs []*yaml.Node, bad []syntaxError) {
	data = bytes.TrimPrefix(data, []byte(byteOrderMark))
	if strings.HasSuffix(name, ".json") {
		return readJSON(data)
	}
	data = bytes.ReplaceAll(data, []byte("\n"+byteOrderMark), []byte("\n")) // of files that were joined
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

// splitYAML cuts at lines that start with "---", and at "...": YAML allows nothing else there to begin so. A marker that
// only directives and comments precede belongs to the document that they announce.
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
		case isMarker(text, "..."):
			out = append(out, chunk{data[start:at], startLine})
			start, startLine = end, line+1
			directive, content = false, false
		case isMarker(text, "---"):
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

func isMarker(line []byte, marker string) bool {
	rest, ok := bytes.CutPrefix(line, []byte(marker))
	return ok && (len(rest) == 0 || strings.IndexByte(" \t\r\n", rest[0]) >= 0)
}

// readYAML parses one chunk. It holds several documents only where line breaks are not those of today's systems.
func readYAML(c chunk) ([]*yaml.Node, *syntaxError) {
	var docs []*yaml.Node
	err := decodeYAML(c.text, func(n *yaml.Node) {
		if !isNull(n) {
			shiftLines(n, c.line-1)
			docs = append(docs, n)
		}
	})
	if err != nil {
		return docs, yamlError(c, err)
	}
	return docs, nil
}

// decodeYAML hands over the documents of a text up to the first error.
func decodeYAML(text []byte, take func(*yaml.Node)) error {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var n yaml.Node
		switch err := dec.Decode(&n); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case n.Kind == yaml.DocumentNode && len(n.Content) == 1:
			take(n.Content[0])
		}
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

var yamlErrorLine = regexp.MustCompile(`^(yaml: )?(line \d+: )?`)

// yamlError gives a parser's error the line where it begins and, for the mistake that people make most, plainer words.
// The line that the parser itself gives is often that of the enclosing block, so it is looked for: it is the last one of
// the shortest beginning of the text that has the error.
func yamlError(c chunk, err error) *syntaxError {
	message := yamlErrorLine.ReplaceAllString(err.Error(), "")
	lines := bytes.SplitAfter(c.text, []byte("\n"))
	ends := make([]int, len(lines))
	end := 0
	for i, l := range lines {
		end += len(l)
		ends[i] = end
	}
	at, _ := slices.BinarySearchFunc(ends, true, func(end int, _ bool) int {
		if yamlMessage(c.text[:end]) == message {
			return 0
		}
		return -1
	})
	at = min(at, len(lines)-1)
	for i := max(at-1, 0); i <= min(at+1, len(lines)-1); i++ {
		if tabIndented(string(lines[i])) {
			at, message = i, "a TAB cannot indent YAML; use spaces"
			break
		}
	}
	return &syntaxError{line: c.line + at, message: "not valid YAML: " + message + syntaxHint(message, string(lines[at]))}
}

// syntaxHint says what may be meant by a line that the parser stumbles over.
func syntaxHint(message, line string) string {
	switch {
	case strings.Contains(line, "{{"):
		return "; templates have to be rendered first"
	case strings.Contains(message, "expected alphabetic or numeric character"):
		return `; what begins with * or & goes in quotes, as in "*.example.com"`
	case strings.Contains(message, "cannot start any token"):
		return "; what begins with @, % or a backtick goes in quotes"
	}
	return ""
}

// yamlMessage is the error that a text has, without its line; "" when it has none.
func yamlMessage(text []byte) string {
	if err := decodeYAML(text, func(*yaml.Node) {}); err != nil {
		return yamlErrorLine.ReplaceAllString(err.Error(), "")
	}
	return ""
}

func tabIndented(line string) bool {
	indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
	return strings.Contains(indent, "\t") && strings.TrimSpace(line) != ""
}

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Tag == "!!null"
}
