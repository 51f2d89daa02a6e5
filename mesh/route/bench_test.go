package route

import (
	"fmt"
	"testing"
)

func BenchmarkFind(b *testing.B) {
	for _, n := range []int{2, 1000} {
		b.Run(fmt.Sprintf("path%d", n), func(b *testing.B) { benchmarkFind(b, otherPaths(n)) })
		b.Run(fmt.Sprintf("header%d", n), func(b *testing.B) { benchmarkFind(b, otherHeaders(n)) })
	}
}

func benchmarkFind(b *testing.B, matches []Match) {
	b.Helper()
	t := Compile(matches)
	r := &Request{
		Authority: "reviews:9080", Path: "/grpc.testing.BenchmarkService/UnaryCall", Method: "POST",
		Scheme: "http", IsGRPC: true, Headers: headers{"end-user": "jason"},
	}
	for b.Loop() {
		if t.Find(r, nil) != len(matches)-1 {
			b.Fatal("wrong route")
		}
	}
}

// otherPaths are n routes of which only the last, for every path, can match.
func otherPaths(n int) []Match {
	matches := make([]Match, n)
	for i := range matches {
		matches[i].Value = fmt.Sprintf("/grpc.testing.Other%03d/", i)
	}
	matches[n-1] = Match{Value: "/"}
	return matches
}

// otherHeaders are n routes for every path that differ in the value of a header.
func otherHeaders(n int) []Match {
	matches := make([]Match, n)
	for i := range matches {
		matches[i] = Match{Value: "/", Headers: []HeaderMatch{
			{Name: "end-user", StringMatch: StringMatch{Value: fmt.Sprintf("user%03d", i)}},
		}}
	}
	matches[n-1].Headers[0].Value = "jason"
	return matches
}

type headers map[string]string

func (h headers) Header(name string) (string, bool) {
	v, ok := h[name]
	return v, ok
}

func BenchmarkCompile(b *testing.B) {
	for name, matches := range map[string][]Match{"path": otherPaths(1000), "header": otherHeaders(1000)} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				Compile(matches)
			}
		})
	}
}
