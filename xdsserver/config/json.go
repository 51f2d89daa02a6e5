package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"
)

// readJSON reads JSON documents, one after the other, into the same tree that YAML is read into. YAML's own reader would
// not do: it refuses surrogate pairs and long keys that JSON allows.
func readJSON(data []byte) ([]*yaml.Node, []syntaxError) {
	r := jsonReader{dec: json.NewDecoder(bytes.NewReader(data)), data: data}
	r.dec.UseNumber()
	var docs []*yaml.Node
	for {
		n, err := r.value(0)
		switch {
		case errors.Is(err, io.EOF):
			return docs, nil
		case err != nil:
			return docs, []syntaxError{{line: r.lineAt(errorOffset(err, r.dec)), message: "not valid JSON: " + jsonMessage(err)}}
		case !isNull(n):
			docs = append(docs, n)
		}
	}
}

type jsonReader struct {
	dec  *json.Decoder
	data []byte

	line, counted int // the line at offset counted; offsets only grow
}

const maxDepth = 200

// value reads one value. It answers io.EOF only where no value begins.
func (r *jsonReader) value(depth int) (*yaml.Node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested deeper than %d", maxDepth)
	}
	t, err := r.dec.Token()
	if err != nil {
		if depth > 0 && errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	n := &yaml.Node{Kind: yaml.ScalarNode, Line: r.lineAt(r.dec.InputOffset())}
	switch t := t.(type) {
	case json.Delim:
		n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		if t == '{' {
			n.Kind, n.Tag = yaml.MappingNode, "!!map"
		}
		return n, r.content(n, depth)
	case string:
		n.Tag, n.Style, n.Value = "!!str", yaml.DoubleQuotedStyle, t
	case json.Number:
		n.Tag, n.Value = numberTag(t), t.String()
	case bool:
		n.Tag, n.Value = "!!bool", fmt.Sprint(t)
	default:
		n.Tag, n.Value = "!!null", "null"
	}
	return n, nil
}

// content reads the elements of a sequence, the keys and values of a mapping, and the closing delimiter.
func (r *jsonReader) content(n *yaml.Node, depth int) error {
	for r.dec.More() {
		c, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		n.Content = append(n.Content, c)
	}
	_, err := r.dec.Token()
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func numberTag(n json.Number) string {
	if bytes.ContainsAny([]byte(n), ".eE") {
		return "!!float"
	}
	return "!!int"
}

// lineAt returns the line of the last byte before an offset.
func (r *jsonReader) lineAt(offset int64) int {
	end := min(max(int(offset), 1), len(r.data))
	if r.line == 0 || end < r.counted {
		r.line, r.counted = 1, 0
	}
	last := max(end-1, r.counted)
	r.line += bytes.Count(r.data[r.counted:last], []byte("\n"))
	r.counted = last
	return r.line
}

func errorOffset(err error, dec *json.Decoder) int64 {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return syntax.Offset
	}
	return dec.InputOffset()
}

func jsonMessage(err error) string {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return "it ends in the middle of a value"
	}
	return err.Error()
}
