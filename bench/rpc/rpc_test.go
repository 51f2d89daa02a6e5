package main

import (
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"
)

// TestContenders makes every contender call, so that a benchmark that does not
// run is noticed before somebody needs its numbers.
func TestContenders(t *testing.T) {
	outR, outW := io.Pipe()
	inR, inW := io.Pipe()
	served := make(chan error, 1)
	go func() { served <- serve(outW, inR) }()
	var env environment
	if err := json.NewDecoder(outR).Decode(&env); err != nil {
		t.Fatal(err)
	}
	var rs []*runner
	for _, c := range contenders {
		t.Run(c.name, func(t *testing.T) {
			r, err := newRunner(c, env)
			if err != nil {
				t.Fatal(err)
			}
			defer r.close()
			if err := r.round(options{dur: 20 * time.Millisecond, workers: 4}); err != nil {
				t.Fatal(err)
			}
			if err := r.repeat(10, 4); err != nil {
				t.Fatal(err)
			}
			rs = append(rs, r)
		})
	}
	var b strings.Builder
	report(&b, rs)
	for _, c := range contenders {
		if strings.Count(b.String(), "| "+c.name+" |") != 2 {
			t.Errorf("%s is not in both tables:\n%s", c.name, &b)
		}
	}
	inW.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
