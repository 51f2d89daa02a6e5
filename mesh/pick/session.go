package pick

import "slices"

// usualHealth is the health that a session's host may have by default.
const usualHealth = HealthSet(1<<Healthy | 1<<Degraded)

// session returns the host that the call is bound to; ok is false if the policy
// chooses instead. A host that failed to connect, that the call tried already
// where tried hosts are picked anew, or whose health does not allow it is not
// used; one that is idle or connecting is waited for (gRFC A55).
func (p *Picker) session(in *Input) (host int, v Verdict, ok bool) {
	if i, known := p.set.index()[in.Override]; known && p.mayOverride(&p.hosts[i]) && (in.MaxRepicks == 0 || !slices.Contains(in.Tried, in.Override)) {
		switch p.conns[i] {
		case Ready:
			return int(i), Picked, true
		case Idle:
			return int(i), Connect, true
		case Connecting:
			return -1, Queue, true
		}
	}
	return -1, Unavailable, in.OverrideStrict
}

func (p *Picker) mayOverride(h *Host) bool {
	allowed := p.config.OverrideHealth
	if allowed == 0 {
		allowed = usualHealth
	}
	return allowed.Has(h.health())
}
