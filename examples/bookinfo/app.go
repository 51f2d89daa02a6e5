package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/meshframe/meshframe/xdsserver"
)

const (
	adminListen   = "127.0.0.1:0"
	readTimeout   = 10 * time.Second
	shutdownGrace = 3 * time.Second
)

// app is everything that runs: the control plane, the members of the mesh and
// the HTTP servers.
type app struct {
	log     loggers
	config  *directory // what the control plane serves
	control *xdsserver.Server
	members []*member
	page    *productpage

	servers  []*http.Server
	pageURL  string
	adminURL string
}

// start starts everything. The members join one after the other and are ready
// to be called when start returns, the mesh a moment later.
func start(ctx context.Context, listen string, log loggers) (_ *app, err error) {
	a := &app{log: log}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close(ctx, true))
		}
	}()
	dir, err := os.MkdirTemp("", "bookinfo-")
	if err != nil {
		return nil, fmt.Errorf("no directory for the YAML: %w", err)
	}
	a.config = &directory{dir: dir}
	a.control, err = xdsserver.New(ctx, xdsserver.Options{Config: []string{dir}, Logger: log.control})
	if err != nil {
		return nil, fmt.Errorf("control plane: %w", err)
	}
	if err := a.startMembers(ctx); err != nil {
		return nil, err
	}
	if a.adminURL, err = a.serve(ctx, adminListen, a.control.Admin()); err != nil {
		return nil, err
	}
	a.adminURL += "/debug/clients"
	if a.pageURL, err = a.serve(ctx, listen, a.page.handler()); err != nil {
		return nil, err
	}
	a.pageURL += "/productpage"
	return a, nil
}

func (a *app) startMembers(ctx context.Context) error {
	for _, m := range []struct {
		service, version string
		register         func(*member) error
	}{
		{"details", "v1", registerDetails},
		{"ratings", "v1", registerRatings},
		{"reviews", "v1", registerReviews},
		{"reviews", "v2", registerReviews},
		{"reviews", "v3", registerReviews},
	} {
		joined, err := a.join(ctx, m.service, m.version)
		if err != nil {
			return err
		}
		if err := m.register(joined); err != nil {
			return err
		}
		if err := joined.serve(ctx); err != nil {
			return err
		}
	}
	joined, err := a.join(ctx, "productpage", "v1")
	if err != nil {
		return err
	}
	a.page, err = newProductpage(joined)
	return err
}

// join makes a member, which close leaves again.
func (a *app) join(ctx context.Context, service, version string) (*member, error) {
	m, err := join(ctx, a.control.Dialer(), service, version, a.log.members)
	if err == nil {
		a.members = append(a.members, m)
	}
	return m, err
}

// serve serves HTTP on an address and returns the URL.
func (a *app) serve(ctx context.Context, address string, h http.Handler) (string, error) {
	var lc net.ListenConfig
	lis, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return "", fmt.Errorf("cannot listen on %s (choose another with -listen): %w", address, err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: readTimeout, ErrorLog: slog.NewLogLogger(a.log.members.Handler(), slog.LevelWarn)}
	a.servers = append(a.servers, server)
	go func() {
		if err := server.Serve(lis); !errors.Is(err, http.ErrServerClosed) {
			a.log.members.Error("HTTP server ended", "address", lis.Addr().String(), "error", err)
		}
	}()
	return "http://" + lis.Addr().String(), nil
}

// close ends everything in the reverse order: who calls ends before who is
// called, and the control plane last. It waits for calls under way, but not for
// ever, and does so whether or not ctx has ended. The YAML directory is removed
// if discard is set.
func (a *app) close(ctx context.Context, discard bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	var errs []error
	for _, s := range a.servers {
		if err := s.Shutdown(ctx); err != nil {
			errs = append(errs, s.Close())
		}
	}
	done := make(chan error, len(a.members))
	for _, m := range a.members {
		go func() { done <- m.close(ctx) }()
	}
	for range a.members {
		errs = append(errs, <-done)
	}
	if a.control != nil {
		errs = append(errs, a.control.Close())
	}
	if a.config != nil && discard {
		errs = append(errs, os.RemoveAll(a.config.dir))
	}
	return errors.Join(errs...)
}
