package srvframe

import (
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/meshframe/meshframe/interceptors"
	"github.com/meshframe/meshframe/mesh/snapshot"
	"github.com/meshframe/meshframe/resolver/xdsclient"
)

// inbound is what the control plane says of the listeners of one server.
type inbound struct {
	calls  *interceptors.Server
	logger *slog.Logger

	mu       sync.Mutex
	verdicts map[string]*verdict // by address
}

// verdict is the newest word on one listener.
type verdict struct {
	accepted bool               // some version could be used, and is
	listener *snapshot.Listener // that version; nil: none was there yet
	denied   error              // why every call is denied
	logged   string             // the error that was logged last
}

func newInbound(logger *slog.Logger) *inbound {
	return &inbound{calls: interceptors.NewServer(), logger: logger, verdicts: map[string]*verdict{}}
}

// watcher returns the watcher of the listener of an address.
func (in *inbound) watcher(address string) func(*snapshot.Listener, error) {
	return func(listener *snapshot.Listener, err error) { in.note(address, listener, err) }
}

// note takes a word on a listener. A listener that holds what cannot be
// evaluated denies the server's calls, for such a policy must not admit them.
// That there is no listener, or no connection to learn of one, denies nothing
// and ends no denial: a server works while the control plane is away.
func (in *inbound) note(address string, listener *snapshot.Listener, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	v := in.verdicts[address]
	if v == nil {
		v = &verdict{}
		in.verdicts[address] = v
	}
	switch {
	case listener != nil:
		v.accepted, v.listener, v.denied = err == nil, listener, err
	case denies(err, v.accepted):
		v.denied = err
	}
	in.calls.Refuse(in.denied())
	in.calls.Configure(in.policies())
	in.log(v, address, err)
}

// log says what is wrong with a listener, once until that changes.
func (in *inbound) log(v *verdict, address string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != v.logged {
		in.logger.Warn("srvframe: inbound listener", "address", address, "error", err)
	}
	v.logged = text
}

// policies returns the listener whose policies the server follows. They hold for
// the server as a whole: of several addresses that have some, those of the first.
func (in *inbound) policies() *snapshot.Listener {
	for _, address := range slices.Sorted(maps.Keys(in.verdicts)) {
		l := in.verdicts[address].listener
		if l != nil && (l.RateLimit != nil || l.MaxConcurrent > 0 || l.Fault != nil) {
			return l
		}
	}
	return nil
}

// denied joins the reasons of all listeners to deny calls.
func (in *inbound) denied() error {
	var reasons []error
	for _, v := range in.verdicts {
		reasons = append(reasons, v.denied)
	}
	return errors.Join(reasons...)
}

// denies reports whether an error in place of a listener denies calls: always
// when the listener was understood and says so, and for one that could not be
// read when no earlier version holds.
func denies(err error, accepted bool) bool {
	var denial interface{ Deny() bool }
	if errors.As(err, &denial) {
		return denial.Deny()
	}
	var refused *xdsclient.RefusedError
	return errors.As(err, &refused) && !accepted
}
