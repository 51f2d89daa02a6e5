package conformance

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

// Road is a way into the mesh: how servers serve, and how calls are made.
type Road interface {
	// Name is what Row.Not and Pending.Roads call it.
	Name() string
	// Open joins a mesh without configuration as the client, until the end of
	// the test.
	Open(t testing.TB, client Client) World
}

// World is a mesh on a Road. But for Call its methods are used by one goroutine,
// and fail the test where they cannot do what they say.
type World interface {
	// Apply makes the YAML the mesh's and returns when it is in force.
	Apply(yaml string)
	// Start starts a server and returns when calls can reach it.
	Start(server Server, answer Answerer) Running
	// Batch runs f, in which Apply and Start need not wait, and returns when all
	// that they did is in force.
	Batch(f func())
	// Sync returns when everybody knows of servers that have stopped.
	Sync()
	// Call makes a call. It may be called by several goroutines.
	Call(ctx context.Context, request Request) Response
}

// Running is a server that was started.
type Running interface {
	IP() string
	Stop() // withdraws it
	Kill() // as a crash does; any goroutine may call it
}

// Answerer is what a server does with a request.
type Answerer func(seen Arrival) Answer

// Request is a call as the caller makes it.
type Request struct {
	Target, Path string
	Headers      map[string]string
}

// Arrival is a request as a server sees it.
type Arrival struct {
	Path, Authority string
	Headers         map[string][]string // names in lower case
	Connection      any                 // comparable; the same for requests of one connection
}

// Answer is what a server says.
type Answer struct {
	Body              string // of an OK answer
	Status            codes.Code
	Headers, Trailers map[string]string
	Load              *Load // nil is nothing
}

// Response is what the caller gets.
type Response struct {
	Body              string
	Status            codes.Code
	Message           string
	Headers, Trailers map[string][]string
	Took              time.Duration
}
