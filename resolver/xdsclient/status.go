package xdsclient

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Status is a copy of the client's state, for debug pages, metrics and CSDS.
type Status struct {
	// Servers has one entry per entry of Config.Servers, in that order.
	Servers []ServerStatus
	// Resources are the subscribed resources, by type URL and name.
	Resources []ResourceStatus
	// Cache is the state of Config.Cache; nil without one.
	Cache *CacheStatus
}

// ServerStatus is the state of the connection to one server.
type ServerStatus struct {
	// URI is Server.URI.
	URI string
	// InCharge is true for the one server whose word counts: the first, unless
	// it could not be reached when something was needed. Those before it are
	// tried again and again, those after it are left alone.
	InCharge bool
	// Protocol is the variant in use or last tried; Auto before the first.
	Protocol Protocol
	// Connected says whether a stream is open, Since since when it is or is
	// not. Values are stale when it has not been for long.
	Connected bool
	Since     time.Time
	// LastResponse is when the server last sent anything; zero: never.
	LastResponse time.Time
	// LastError is why the last attempt or stream ended. It is nil once the
	// server has answered again.
	LastError error
	// Failures counts the attempts that failed in a row: no stream was opened, or
	// it ended at once and without a word. NextAttempt is when the next one is
	// due; zero when none is, or when it is being made.
	Failures    int
	NextAttempt time.Time
	// Types are the resource types spoken about on this connection, by URL.
	Types []TypeStatus
}

// TypeStatus is the protocol state of one resource type with one server.
type TypeStatus struct {
	// TypeURL and Name are those of the ResourceType.
	TypeURL, Name string
	// Version is the version last accepted as a whole: version_info in
	// state-of-the-world, system_version_info in delta.
	Version string
	// Nonce is that of the last response of the current stream.
	Nonce string
	// LastNACK describes the last refusal sent; zero when there was none.
	LastNACK NACKStatus
}

// NACKStatus describes a refusal that was sent to a server.
type NACKStatus struct {
	// Version and Nonce are those of the refused response.
	Version, Nonce string
	// Detail is the text that was sent.
	Detail string
	// At is when it was sent, Count how many were sent since the client began.
	At    time.Time
	Count int
}

// ResourceStatus is what is known of one resource.
type ResourceStatus struct {
	// TypeURL and Name identify the resource.
	TypeURL, Name string
	// State tells the outcome of the last that was heard of it.
	State ResourceState
	// Server is the URI of the server whose word State is; "": nobody's so far.
	Server string
	// Version is that of the value at hand, "" when there is none.
	Version string
	// Stale says that the value at hand is a saved copy.
	Stale bool
	// Accepted is when the value at hand was accepted: a saved copy by an earlier
	// client. Zero when there is none.
	Accepted time.Time
	// Updated is when State last changed or a new version arrived.
	Updated time.Time
	// Err is why State is Refused or Missing, else nil.
	Err error
	// Watchers is the number of watches.
	Watchers int
}

// ResourceState is where a subscription stands.
type ResourceState uint8

const (
	// Requested means that the server has not answered yet.
	Requested ResourceState = iota
	// Accepted means that the last version was accepted as a whole.
	Accepted
	// Refused means that the last version was refused, as a whole or in part,
	// or that the server reported an error; an earlier version or the rest of the last may
	// be in use.
	Refused
	// Missing means that the resource does not exist.
	Missing
)

// String returns the name of the state, such as "accepted".
func (s ResourceState) String() string {
	switch s {
	case Requested:
		return "requested"
	case Accepted:
		return "accepted"
	case Refused:
		return "refused"
	case Missing:
		return "missing"
	}
	return fmt.Sprintf("ResourceState(%d)", uint8(s))
}

// Status returns a copy of the client's state. It does not block.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := Status{Cache: c.keeper.state()}
	for _, s := range c.servers {
		out.Servers = append(out.Servers, s.status())
	}
	for _, e := range c.order {
		for _, s := range e.subs {
			out.Resources = append(out.Resources, s.status())
		}
	}
	slices.SortFunc(out.Resources, func(a, b ResourceStatus) int {
		return cmp.Or(cmp.Compare(a.TypeURL, b.TypeURL), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// status is the server's part of Status. Client.mu is held.
func (s *server) status() ServerStatus {
	out := s.health
	out.InCharge = s == s.c.inCharge()
	for url, m := range s.memory {
		t := TypeStatus{TypeURL: url, Name: s.c.types[url].name, Version: m.accepted[out.Protocol], LastNACK: m.nack}
		if s.stream != nil && s.stream.talks[url] != nil {
			t.Nonce = s.stream.talks[url].nonce
		}
		out.Types = append(out.Types, t)
	}
	slices.SortFunc(out.Types, func(a, b TypeStatus) int { return cmp.Compare(a.TypeURL, b.TypeURL) })
	return out
}

// status is the resource's part of Status. Client.mu is held.
func (s *subscription) status() ResourceStatus {
	out := ResourceStatus{
		TypeURL: s.entry.url, Name: s.name, State: s.state, Version: s.version, Stale: s.stale,
		Accepted: s.taken, Updated: s.updated, Err: s.err, Watchers: len(s.watches),
	}
	if s.by != nil {
		out.Server = s.by.cfg.URI
	}
	return out
}
