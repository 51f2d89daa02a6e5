package mesh

import (
	"time"

	"github.com/meshframe/meshframe/mesh/ratelimit"
)

// admit asks a limiter about a request.
func admit(l *ratelimit.Limiter, r *Request, now time.Time) bool {
	if !l.Keyed() {
		return l.Allow(nil, "", now)
	}
	own := *r // on the heap, not the caller's
	source := ""
	if r.Source != nil {
		source = r.Source.SourceIP()
	}
	return l.Allow(&own, source, now)
}
