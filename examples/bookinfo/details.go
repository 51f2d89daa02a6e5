package main

import (
	"context"

	"github.com/meshframe/meshframe/examples/bookinfo/bookinfopb"
)

// details knows the facts about the one book.
type details struct {
	bookinfopb.UnimplementedDetailsServer

	member *member
}

func registerDetails(m *member) error {
	bookinfopb.RegisterDetailsServer(m.server, &details{member: m})
	return nil
}

func (d *details) GetBook(context.Context, *bookinfopb.GetBookRequest) (*bookinfopb.Book, error) {
	return &bookinfopb.Book{
		Title:     "The Comedy of Errors",
		Author:    "William Shakespeare",
		Year:      1595,
		Type:      "paperback",
		Pages:     200,
		Publisher: "PublisherA",
		Language:  "English",
		Isbn:      "1234567890",
		Server:    d.member.identity(),
	}, nil
}
