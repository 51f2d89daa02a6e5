package main

import (
	"context"
	"time"

	"google.golang.org/grpc/status"

	"github.com/meshframe/meshframe/examples/bookinfo/bookinfopb"
)

// reviews knows what readers wrote. Version 1 shows no stars, version 2 black
// ones and version 3 red ones, which both ask ratings for.
type reviews struct {
	bookinfopb.UnimplementedReviewsServer

	member  *member
	ratings bookinfopb.RatingsClient // nil in version 1
	color   string
	// timeout is how long ratings may take. Version 2 has Istio's famous bug:
	// it waits longer than its own caller does.
	timeout time.Duration
}

const (
	black = "black"
	red   = "red"

	blackTimeout = 10 * time.Second
	redTimeout   = 2500 * time.Millisecond
)

func registerReviews(m *member) error {
	r := &reviews{member: m}
	switch m.version {
	case "v2":
		r.color, r.timeout = black, blackTimeout
	case "v3":
		r.color, r.timeout = red, redTimeout
	}
	if r.color != "" {
		conn, err := m.client("ratings")
		if err != nil {
			return err
		}
		r.ratings = bookinfopb.NewRatingsClient(conn)
	}
	bookinfopb.RegisterReviewsServer(m.server, r)
	return nil
}

func (r *reviews) ListReviews(ctx context.Context, in *bookinfopb.ListReviewsRequest) (*bookinfopb.ListReviewsResponse, error) {
	out := &bookinfopb.ListReviewsResponse{
		Reviews: []*bookinfopb.Review{
			{Reviewer: reviewer1, Text: "An extremely entertaining play by Shakespeare. The slapstick humour is refreshing!"},
			{Reviewer: reviewer2, Text: "Absolutely fun and entertaining. The play lacks thematic depth when compared to other plays by Shakespeare."},
		},
		Server:    r.member.identity(),
		StarColor: r.color,
	}
	if r.ratings != nil {
		r.addStars(ctx, in.GetBookId(), out)
	}
	return out, nil
}

// addStars asks ratings for stars. Reviews without stars are better than none.
func (r *reviews) addStars(ctx context.Context, book int32, out *bookinfopb.ListReviewsResponse) {
	ctx, cancel := r.outlive(ctx)
	defer cancel()
	got, err := r.ratings.ListRatings(ctx, &bookinfopb.ListRatingsRequest{BookId: book})
	if err != nil {
		out.RatingsError = status.Convert(err).Code().String()
		return
	}
	out.RatingsServer = got.GetServer()
	for _, review := range out.GetReviews() {
		review.Stars = got.GetStars()[review.GetReviewer()]
	}
}

// outlive returns the context of the call to ratings: for the same user, but
// with a timeout of its own that takes no notice of how long the caller waits.
// gRPC would pass the caller's deadline on; that it does not here is the bug of
// Istio's original, which the tour shows.
func (r *reviews) outlive(ctx context.Context) (context.Context, context.CancelFunc) {
	out, cancel := context.WithTimeout(as(r.member.closing, user(ctx)), r.timeout)
	return out, cancel
}
