// Package bookinfopb holds the messages and gRPC services of the bookinfo
// example, generated from bookinfo.proto. To generate them anew, install protoc
// (Debian: protobuf-compiler) and run go generate in this directory; it builds
// the two plug-ins of the versions named here into ./bin, which is not kept.
//
// This package makes no promise of a stable API.
package bookinfopb

//go:generate env GOBIN=${PWD}/bin go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
//go:generate env GOBIN=${PWD}/bin go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.0
//go:generate protoc --plugin=bin/protoc-gen-go --plugin=bin/protoc-gen-go-grpc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative bookinfo.proto
//go:generate rm -r bin
