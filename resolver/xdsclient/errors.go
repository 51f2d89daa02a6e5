package xdsclient

import "fmt"

// ServerError says that a control plane could not be reached, that its stream
// ended before it answered, or that it answered with an error for a resource
// (gRFC A88). Only the last is about the resource, and names it: see Resource.
type ServerError struct {
	// Server is the URI of the server.
	Server string
	// Type is ResourceType.Name, Resource the resource's name, if the server
	// answered with an error for it. Both are empty in an outage.
	Type, Resource string
	// Err is the cause: in an answer the server's own words, as a gRPC status.
	Err error
}

// Error names the server, the resource that it answered for, if any, and the
// cause.
func (e *ServerError) Error() string {
	if e.Resource == "" {
		return fmt.Sprintf("xds server %q: %v", e.Server, e.Err)
	}
	return fmt.Sprintf("%s %q: xds server %q answered with an error: %v", e.Type, e.Resource, e.Server, e.Err)
}

// Unwrap returns the cause.
func (e *ServerError) Unwrap() error { return e.Err }

// RefusedError says that a resource, or a part of it, was received and refused.
type RefusedError struct {
	// Type is ResourceType.Name, Resource the resource's name.
	Type, Resource string
	// Version is the refused version.
	Version string
	// Server is the URI of the server that sent it.
	Server string
	// Err is the reason: what Decode answered, or that the envelope was bad.
	Err error
}

// Error names the resource, its version and the reason.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s %q, version %q from %q, refused: %v", e.Type, e.Resource, e.Version, e.Server, e.Err)
}

// Unwrap returns the reason.
func (e *RefusedError) Unwrap() error { return e.Err }

// MissingError says that a resource does not exist.
type MissingError struct {
	// Type is ResourceType.Name, Resource the resource's name.
	Type, Resource string
	// Server is the URI of the server that was asked.
	Server string
	// Expired is true when the server did not answer within
	// Config.WatchExpiry, and false when it said that there is none.
	Expired bool
	// Err is the server's own reason (gRFC A88); usually nil.
	Err error
}

// Error names the resource, the server and how the absence was noticed.
func (e *MissingError) Error() string {
	switch {
	case e.Expired:
		return fmt.Sprintf("%s %q does not exist: no answer from xds server %q", e.Type, e.Resource, e.Server)
	case e.Err != nil:
		return fmt.Sprintf("%s %q does not exist on xds server %q: %v", e.Type, e.Resource, e.Server, e.Err)
	}
	return fmt.Sprintf("%s %q does not exist on xds server %q", e.Type, e.Resource, e.Server)
}

// Unwrap returns the server's own reason, if any.
func (e *MissingError) Unwrap() error { return e.Err }
