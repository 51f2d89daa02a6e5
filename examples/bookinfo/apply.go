package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"sigs.k8s.io/yaml"
)

// directory is the YAML that the control plane serves: one file per object, as
// a cluster would hold them. People may edit it at any time.
type directory struct{ dir string }

// apply does what kubectl apply does: each object of the file takes the place
// of the object of its kind and name, and all others stay. It returns what it
// applied, as kind/name. An object changes in one step, never half.
func (d *directory) apply(f source) ([]string, error) {
	objects, err := split(f)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, o := range objects {
		if err := d.write(o.file(), o.text); err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		names = append(names, o.kind+"/"+o.name)
	}
	return names, nil
}

// write replaces a file in one step. The temporary file's name starts with a
// dot, which the control plane passes over.
func (d *directory) write(name string, text []byte) (err error) {
	tmp, err := os.CreateTemp(d.dir, ".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	_, err = tmp.Write(text)
	if err := errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), filepath.Join(d.dir, name))
}

// source is a YAML file to apply.
type source struct {
	name string
	text []byte
}

// object is one document of a source, byte for byte.
type object struct {
	kind, namespace, name string
	text                  []byte
}

func (o object) file() string {
	parts := []string{strings.ToLower(o.kind), o.name}
	if o.namespace != "" {
		parts = append(parts, o.namespace)
	}
	return strings.Join(parts, "-") + ".yaml"
}

var (
	separator = regexp.MustCompile(`(?m)^---[ \t]*(#.*)?\r?$\n?`)
	nameForm  = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?$`)
)

// split reads the objects of a YAML file.
func split(f source) ([]object, error) {
	var out []object
	for i, text := range separator.Split(string(f.text), -1) {
		var head struct {
			Kind     string `json:"kind"`
			Metadata struct {
				Name      string `json:"name"`
				Namespace string `json:"namespace"`
			} `json:"metadata"`
		}
		if err := yaml.Unmarshal([]byte(text), &head); err != nil {
			return nil, fmt.Errorf("%s: document %d: %w", f.name, i+1, err)
		}
		o := object{kind: head.Kind, namespace: head.Metadata.Namespace, name: head.Metadata.Name, text: []byte(text)}
		switch {
		case o.kind == "" && o.name == "" && blank(text):
			continue
		case !nameForm.MatchString(o.kind) || !nameForm.MatchString(o.name) || o.namespace != "" && !nameForm.MatchString(o.namespace):
			return nil, fmt.Errorf("%s: document %d: it needs a kind and a metadata.name", f.name, i+1)
		}
		out = append(out, o)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: holds no object", f.name)
	}
	return out, nil
}

// blank reports whether a document holds nothing but comments.
func blank(text string) bool {
	for line := range bytes.Lines([]byte(text)) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return false
		}
	}
	return true
}
