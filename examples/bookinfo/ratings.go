package main

import (
	"context"

	"github.com/meshframe/meshframe/examples/bookinfo/bookinfopb"
)

// The readers whose opinions bookinfo knows.
const (
	reviewer1 = "Reviewer1"
	reviewer2 = "Reviewer2"
)

// ratings knows how many stars each reader gave.
type ratings struct {
	bookinfopb.UnimplementedRatingsServer

	member *member
}

func registerRatings(m *member) error {
	bookinfopb.RegisterRatingsServer(m.server, &ratings{member: m})
	return nil
}

func (r *ratings) ListRatings(context.Context, *bookinfopb.ListRatingsRequest) (*bookinfopb.ListRatingsResponse, error) {
	return &bookinfopb.ListRatingsResponse{
		Stars:  map[string]int32{reviewer1: 5, reviewer2: 4},
		Server: r.member.identity(),
	}, nil
}
