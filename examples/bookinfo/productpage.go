package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc/status"

	"github.com/meshframe/meshframe/examples/bookinfo/bookinfopb"
)

// As in Istio's bookinfo: productpage gives each call three seconds and asks
// reviews a second time.
const (
	callTimeout    = 3 * time.Second
	reviewAttempts = 2
)

// userCookie remembers who is logged in. There is no password: it is a demo.
const userCookie = "user"

// productpage serves the page over HTTP and collects what is on it over gRPC.
type productpage struct {
	member  *member
	details bookinfopb.DetailsClient
	reviews bookinfopb.ReviewsClient
}

func newProductpage(m *member) (*productpage, error) {
	toDetails, err := m.client("details")
	if err != nil {
		return nil, err
	}
	toReviews, err := m.client("reviews")
	if err != nil {
		return nil, err
	}
	return &productpage{
		member:  m,
		details: bookinfopb.NewDetailsClient(toDetails),
		reviews: bookinfopb.NewReviewsClient(toReviews),
	}, nil
}

func (p *productpage) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", http.RedirectHandler("/productpage", http.StatusFound))
	mux.HandleFunc("GET /productpage", p.show)
	mux.HandleFunc("POST /login", p.login)
	mux.HandleFunc("POST /logout", p.logout)
	return mux
}

func (p *productpage) show(w http.ResponseWriter, r *http.Request) {
	name := ""
	if c, err := r.Cookie(userCookie); err == nil && plainName(c.Value) {
		name = c.Value
	}
	content := p.collect(r.Context(), name)
	render, kind := renderHTML, "text/html; charset=utf-8"
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		render, kind = json.Marshal, "application/json"
	}
	text, err := render(content)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", kind)
	_, _ = w.Write(text) // it fails when the client has gone
}

func renderHTML(content any) ([]byte, error) {
	var out bytes.Buffer
	err := pageTemplate.Execute(&out, content)
	return out.Bytes(), err
}

// collect asks details and reviews for user. An answer that does not come is
// shown as such; the page itself is always served.
func (p *productpage) collect(ctx context.Context, user string) *page {
	begin := time.Now()
	ctx = as(ctx, user)
	out := &page{User: user}
	p.book(ctx, out)
	for out.ReviewsAttempts < reviewAttempts && ctx.Err() == nil {
		out.ReviewsAttempts++
		if p.listReviews(ctx, out); out.ReviewsError == "" {
			break
		}
	}
	out.Took = time.Since(begin)
	return out
}

func (p *productpage) book(ctx context.Context, out *page) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	book, err := p.details.GetBook(ctx, &bookinfopb.GetBookRequest{})
	if out.BookError = failure(err); err == nil {
		out.addBook(book)
	}
}

func (p *productpage) listReviews(ctx context.Context, out *page) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	reviews, err := p.reviews.ListReviews(ctx, &bookinfopb.ListReviewsRequest{})
	if out.ReviewsError = failure(err); err == nil {
		out.addReviews(reviews)
	}
}

// failure is the text of an error for the page; "" for none.
func failure(err error) string {
	if err == nil {
		return ""
	}
	s := status.Convert(err)
	return s.Code().String() + ": " + s.Message()
}

func (p *productpage) login(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimSpace(r.PostFormValue("username"))
	if !plainName(name) {
		http.Error(w, "a user name has 1 to 64 letters, digits, dots or dashes", http.StatusBadRequest)
		return
	}
	http.SetCookie(w, cookie(name, 0))
	http.Redirect(w, r, "/productpage", http.StatusSeeOther)
}

func (p *productpage) logout(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, cookie("", -1))
	http.Redirect(w, r, "/productpage", http.StatusSeeOther)
}

func cookie(name string, maxAge int) *http.Cookie {
	//nolint:gosec // Secure would keep the cookie from this page, which is served without TLS
	return &http.Cookie{Name: userCookie, Value: name, Path: "/", MaxAge: maxAge, HttpOnly: true, SameSite: http.SameSiteStrictMode}
}

// plainName reports whether a name can travel as a header.
func plainName(name string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-"
	return name != "" && len(name) <= 64 && strings.Trim(name, letters) == ""
}
