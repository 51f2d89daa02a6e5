package snapshot

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTheStrictestConnectionSettingsHold(t *testing.T) {
	t.Parallel()
	one := ConnectionPool{MaxRequests: 10, MaxDuration: time.Hour, Keepalive: &TCPKeepalive{Probes: 3, Time: time.Minute}}
	other := ConnectionPool{MaxRequests: 20, MaxStreams: 5, MaxDuration: time.Minute, IdleTimeout: time.Second, Keepalive: &TCPKeepalive{Time: time.Second, Interval: 2 * time.Second}}
	want := ConnectionPool{
		MaxRequests: 10, MaxStreams: 5, MaxDuration: time.Minute, IdleTimeout: time.Second,
		Keepalive: &TCPKeepalive{Probes: 3, Time: time.Second, Interval: 2 * time.Second},
	}
	a, b, none := one, other, ConnectionPool{}
	a.Tighten(&other)
	b.Tighten(&one)
	none.Tighten(&one)
	for name, got := range map[string]ConnectionPool{"one and other": a, "other and one": b} {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if diff := cmp.Diff(one, none); diff != "" {
		t.Errorf("none and one: %s", diff)
	}
	if one.Keepalive.Time != time.Minute {
		t.Error("what was compared was changed")
	}
}

func TestProbesAreStricterThanNone(t *testing.T) {
	t.Parallel()
	off, on := ConnectionPool{Keepalive: &TCPKeepalive{Off: true}}, ConnectionPool{Keepalive: &TCPKeepalive{Probes: 2}}
	a, b := off, on
	a.Tighten(&on)
	b.Tighten(&off)
	if *a.Keepalive != *on.Keepalive || *b.Keepalive != *on.Keepalive {
		t.Errorf("%+v and %+v, want probes", a.Keepalive, b.Keepalive)
	}
}

func TestKeepaliveAloneIsNoLimit(t *testing.T) {
	t.Parallel()
	for _, p := range []ConnectionPool{{MaxRequests: 1}, {MaxStreams: 1}, {MaxDuration: 1}, {IdleTimeout: 1}} {
		if !p.Limits() {
			t.Errorf("%+v does not limit", p)
		}
	}
	if p := (ConnectionPool{Keepalive: &TCPKeepalive{Probes: 1}}); p.Limits() {
		t.Error("probes limit")
	}
}
