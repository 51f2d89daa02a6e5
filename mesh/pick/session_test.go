package pick

import "testing"

func TestSessions(t *testing.T) {
	const usual, drainingToo = HealthSet(0), HealthSet(1<<Healthy | 1<<Draining)
	for _, test := range []struct {
		name    string
		health  Health
		ejected bool
		conn    ConnState
		allowed HealthSet
		verdict Verdict // of the bound host; Unavailable: another one is chosen
	}{
		{"healthy", Healthy, false, Ready, usual, Picked},
		{"degraded", Degraded, false, Ready, usual, Picked},
		{"unhealthy", Unhealthy, false, Ready, usual, Unavailable},
		{"ejected", Healthy, true, Ready, usual, Unavailable},
		{"draining", Draining, false, Ready, usual, Unavailable},
		{"draining, allowed", Draining, false, Ready, drainingToo, Picked},
		{"draining and ejected, allowed", Draining, true, Ready, drainingToo, Picked},
		{"degraded, not allowed", Degraded, false, Ready, drainingToo, Unavailable},
		{"idle", Healthy, false, Idle, usual, Connect},
		{"connecting", Healthy, false, Connecting, usual, Queue},
		{"failed", Healthy, false, Failed, usual, Unavailable},
	} {
		for _, policy := range everyPolicy {
			hosts, conns := hostsOf(1, 1, 1)
			hosts[1].Health, conns[1] = test.health, test.conn
			hosts[1].State.Ejected.Store(test.ejected)
			p := New(Config{Policy: policy, OverrideHealth: test.allowed}, &State{}, hosts, conns, 0)
			in := Input{Rand: seeded(51).Uint64, Override: hosts[1].State}
			strict := in
			strict.OverrideStrict = true
			host, v := p.Pick(&in)
			strictHost, strictVerdict := p.Pick(&strict)
			if strictVerdict != test.verdict || (strictHost == 1) != (test.verdict == Picked || test.verdict == Connect) {
				t.Errorf("%s, policy %d, strict: %d, %v", test.name, policy, strictHost, strictVerdict)
			}
			switch {
			case test.verdict != Unavailable && (host != strictHost || v != strictVerdict):
				t.Errorf("%s, policy %d: %d, %v; strictly %d, %v", test.name, policy, host, v, strictHost, strictVerdict)
			case test.verdict == Unavailable && (host == 1 || v != Picked):
				t.Errorf("%s, policy %d: %d, %v", test.name, policy, host, v)
			}
			want := int64(0)
			if p.counts && test.verdict == Picked {
				want = 2
			}
			if got := hosts[1].State.InFlight.Load(); got != want {
				t.Errorf("%s, policy %d: %d in flight, want %d", test.name, policy, got, want)
			}
		}
	}
}

func TestSessionsOfOthers(t *testing.T) {
	hosts, conns := hostsOf(1, 1)
	p := New(Config{}, &State{}, hosts, conns, 0)
	gone := &HostState{}
	if _, v := p.Pick(&Input{Override: gone}); v != Picked {
		t.Errorf("the host is gone: %v", v)
	}
	if _, v := p.Pick(&Input{Override: gone, OverrideStrict: true}); v != Unavailable {
		t.Errorf("the host is gone, strict: %v", v)
	}
	if _, v := p.Pick(&Input{OverrideStrict: true}); v != Unavailable {
		t.Errorf("no host, strict: %v", v)
	}
	for range 4 {
		in := &Input{Override: hosts[1].State, Tried: []*HostState{hosts[1].State}, MaxRepicks: 5}
		if host, _ := p.Pick(in); host != 0 {
			t.Error("a retry used the session's host again")
		}
	}
}
