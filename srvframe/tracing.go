package srvframe

import (
	"sync"

	"google.golang.org/grpc"
)

// EnableTracing stands for [grpc.EnableTracing], which a variable of another
// package cannot alias: NewClient, Dial, DialContext and NewServer hand a true
// value on. Set it before the first of them is called.
var EnableTracing bool

// tracingMu guards the writes to grpc.EnableTracing.
var tracingMu sync.Mutex

// passTracing hands EnableTracing on to gRPC.
func passTracing() {
	tracingMu.Lock()
	defer tracingMu.Unlock()
	if EnableTracing && !grpc.EnableTracing {
		grpc.EnableTracing = true
	}
}
