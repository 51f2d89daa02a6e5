// Package bootstrap says which control plane a process talks to and as whom. It
// reads gRPC's own bootstrap JSON, so that a process that works with gRPC's
// xds:/// works here with the same file, makes one of our own for a bare
// address, and writes bootstraps that any gRPC client takes. It is the first
// step of the data plane: what it finds configures resolver/xdsclient.
//
// Types are strict: a field of the wrong type is an error that names the
// source, the JSON path and what was expected, and all such errors are reported
// together. Fields that are not known are ignored, as gRPC has it, but listed
// in Config.Warnings.
//
// The format is described in gRPC's doc/grpc_xds_bootstrap_format.md and in
// gRFCs A27 (servers, node), A29 (certificate providers), A36 and A47 (resource
// name templates, authorities), A53 (ignore_resource_deletion), A65 (TLS) and
// A71 (several servers).
//
// This package makes no promise of a stable API.
package bootstrap
