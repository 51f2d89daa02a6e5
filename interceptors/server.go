package interceptors

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Server is the server side of one mesh member. Its methods are interceptors
// that run before the application's own, and are safe for concurrent use.
type Server struct {
	refused atomic.Pointer[error]
}

// NewServer returns interceptors that admit every call.
func NewServer() *Server { return &Server{} }

// Refuse makes every call fail with err, because the configuration of the
// listener holds a policy that cannot be evaluated: such a policy denies. A nil
// err admits calls again.
func (s *Server) Refuse(err error) {
	if err == nil {
		s.refused.Store(nil)
		return
	}
	s.refused.Store(&err)
}

func (s *Server) admit() error {
	if err := s.refused.Load(); err != nil {
		return status.Errorf(codes.PermissionDenied, "the listener's policy cannot be evaluated: %v", *err)
	}
	return nil
}

// Unary is a grpc.UnaryServerInterceptor.
func (s *Server) Unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if err := s.admit(); err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

// Stream is a grpc.StreamServerInterceptor.
func (s *Server) Stream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if err := s.admit(); err != nil {
		return err
	}
	return handler(srv, ss)
}
