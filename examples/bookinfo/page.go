package main

import (
	_ "embed"
	"html/template"
	"strconv"
	"strings"
	"time"

	"github.com/meshframe/meshframe/examples/bookinfo/bookinfopb"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{"stars": stars}).Parse(pageText))

func stars(n int32) string {
	const most = 5
	return strings.Repeat("★", int(n)) + strings.Repeat("☆", max(0, most-int(n)))
}

// page is what the page shows: as HTML for people, as JSON for programs.
type page struct {
	User string `json:"user,omitempty"` // who is logged in

	Book          *book   `json:"book,omitempty"`
	BookError     string  `json:"bookError,omitempty"`
	DetailsServer *server `json:"detailsServer,omitempty"`

	Reviews         []review `json:"reviews,omitempty"`
	ReviewsError    string   `json:"reviewsError,omitempty"`
	ReviewsAttempts int      `json:"reviewsAttempts"`
	ReviewsServer   *server  `json:"reviewsServer,omitempty"`

	StarColor     string  `json:"starColor,omitempty"` // empty for a version of reviews that shows none
	RatingsError  string  `json:"ratingsError,omitempty"`
	RatingsServer *server `json:"ratingsServer,omitempty"`

	Took time.Duration `json:"took"` // nanoseconds, to collect all of this
}

// server is a member of the mesh that answered.
type server struct {
	Service string `json:"service"`
	Version string `json:"version"`
	Address string `json:"address"`
}

type book struct {
	Title  string `json:"title"`
	Author string `json:"author"`
	Facts  []fact `json:"facts"`
}

type fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type review struct {
	Reviewer string `json:"reviewer"`
	Text     string `json:"text"`
	Stars    int32  `json:"stars,omitempty"`
}

func (p *page) addBook(b *bookinfopb.Book) {
	p.Book = &book{Title: b.GetTitle(), Author: b.GetAuthor(), Facts: []fact{
		{"Type", b.GetType()},
		{"Pages", strconv.Itoa(int(b.GetPages()))},
		{"Year", strconv.Itoa(int(b.GetYear()))},
		{"Publisher", b.GetPublisher()},
		{"Language", b.GetLanguage()},
		{"ISBN", b.GetIsbn()},
	}}
	p.DetailsServer = shown(b.GetServer())
}

func (p *page) addReviews(r *bookinfopb.ListReviewsResponse) {
	for _, v := range r.GetReviews() {
		p.Reviews = append(p.Reviews, review{Reviewer: v.GetReviewer(), Text: v.GetText(), Stars: v.GetStars()})
	}
	p.ReviewsServer = shown(r.GetServer())
	p.StarColor, p.RatingsError = r.GetStarColor(), r.GetRatingsError()
	p.RatingsServer = shown(r.GetRatingsServer())
}

func shown(s *bookinfopb.Server) *server {
	if s == nil {
		return nil
	}
	return &server{Service: s.GetService(), Version: s.GetVersion(), Address: s.GetAddress()}
}
