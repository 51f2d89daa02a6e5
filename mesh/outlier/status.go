package outlier

import "github.com/meshframe/meshframe/mesh/outcome"

// StatusSet is a set of HTTP statuses, 100 to 599. The zero set is empty.
type StatusSet [8]uint64

// The statuses that a StatusSet can hold.
const (
	FirstStatus = 100
	LastStatus  = 599
)

// Add puts a status into the set; others than those from FirstStatus to
// LastStatus are no statuses.
func (s *StatusSet) Add(status int) {
	if n := status - FirstStatus; status >= FirstStatus && status <= LastStatus {
		s[n/64] |= 1 << (n % 64)
	}
}

// Has reports whether a status is in the set.
func (s *StatusSet) Has(status int) bool {
	n := status - FirstStatus
	return status >= FirstStatus && status <= LastStatus && s[n/64]>>(n%64)&1 == 1
}

// The status that stands for a response that counts as a failure and is no 5xx.
const plainError = 500

// judge returns whether an attempt counts as a failure, and the status that it
// is counted by: with a set of errors a response in it that is no 5xx counts as
// 500, and a 5xx that is not in it as a success, as in Envoy.
func (c *Config) judge(a *outcome.Attempt) (status int32, failed bool) {
	if c.Errors == nil || a.LocalOrigin || a.HTTPStatus == 0 {
		return a.HTTPStatus, a.Failed() || a.LocalOrigin
	}
	if !c.Errors.Has(int(a.HTTPStatus)) {
		return a.HTTPStatus, false
	}
	return max(a.HTTPStatus, plainError), true
}
