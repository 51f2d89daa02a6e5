// Package ratelimit admits calls by token bucket, one bucket for all calls or one
// for each value of a key (Envoy extensions.filters.http.local_ratelimit.v3). It
// is told the time.
//
// This package makes no promise of a stable API.
package ratelimit

import (
	"reflect"
	"time"
)

// Policy is a local rate limit. It is not written after it was built.
type Policy struct {
	// Bucket admits the calls that no entry of Keyed is for.
	Bucket Bucket
	// Keyed are buckets for calls whose key equals Values; an empty value stands
	// for any, with a bucket for each that comes up, at most MaxKeys.
	Keyed   []Keyed
	MaxKeys int // default 10,000; of more the least recently used is dropped
	// Enforced is the share in millionths of the calls that are refused when
	// their bucket is empty; default all.
	Enforced uint32
	// Status is the HTTP status of a refusal; default 429.
	Status int
}

// Equal reports whether o says the same, so that a Limiter by one of them can go
// on in the place of the other.
func (p *Policy) Equal(o *Policy) bool { return reflect.DeepEqual(p, o) }

// Bucket is a token bucket. The zero Bucket admits everything.
type Bucket struct {
	MaxTokens     uint32
	TokensPerFill uint32        // default 1
	FillInterval  time.Duration // at least 50 ms in Envoy
}

// Keyed is a bucket for the calls that match.
type Keyed struct {
	Key    []KeyPart
	Bucket Bucket
}

// KeyPart is one part of the key of a call.
type KeyPart struct {
	Header string // name in lower case; or
	Source bool   // the address of the caller
	Value  string // "" is a bucket for each value
}
