package enginetest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// words are the parts of one line: plain words and key=value options.
type words struct {
	plain   []string
	options map[string]string
}

// split parts a line at spaces that are not within double quotes; the quotes go.
func split(line string) words {
	w := words{options: map[string]string{}}
	quoted := false
	fields := strings.FieldsFunc(line, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == ' ' && !quoted
	})
	for _, f := range fields {
		key, value, option := strings.Cut(strings.ReplaceAll(f, `"`, ""), "=")
		if option && !strings.ContainsAny(key, ":/") {
			w.options[key] = value
			continue
		}
		w.plain = append(w.plain, strings.ReplaceAll(f, `"`, ""))
	}
	return w
}

// take removes the first plain word.
func (w *words) take() (string, error) {
	if len(w.plain) == 0 {
		return "", errors.New("a word is missing")
	}
	first := w.plain[0]
	w.plain = w.plain[1:]
	return first, nil
}

// flag removes a plain word and reports whether it was there.
func (w *words) flag(name string) bool {
	for i, p := range w.plain {
		if p == name {
			w.plain = append(w.plain[:i:i], w.plain[i+1:]...)
			return true
		}
	}
	return false
}

// times removes a plain word like x5.
func (w *words) times() int {
	for i, p := range w.plain {
		if n, err := strconv.Atoi(strings.TrimPrefix(p, "x")); err == nil && p[0] == 'x' {
			w.plain = append(w.plain[:i:i], w.plain[i+1:]...)
			return n
		}
	}
	return 1
}

// reader reads options and remembers the first mistake.
type reader struct {
	options map[string]string
	err     error
}

func (r *reader) text(key string) (string, bool) {
	v, ok := r.options[key]
	delete(r.options, key)
	return v, ok
}

func (r *reader) number(key string, into *uint32) {
	v, ok := r.text(key)
	if !ok {
		return
	}
	n, err := strconv.ParseUint(v, 10, 32)
	r.note(err)
	*into = uint32(n)
}

func (r *reader) duration(key string, into *time.Duration) {
	if v, ok := r.text(key); ok {
		d, err := time.ParseDuration(v)
		r.note(err)
		*into = d
	}
}

func (r *reader) note(err error) {
	if r.err == nil {
		r.err = err
	}
}

// finish returns the first mistake; an option that nobody read is one.
func (r *reader) finish() error {
	for key := range r.options {
		r.note(fmt.Errorf("unknown option %s", key))
	}
	return r.err
}

// millionths reads a percentage like 12.5%.
func millionths(text string) (uint32, error) {
	p, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
	return uint32(p*10_000 + 0.5), err
}
