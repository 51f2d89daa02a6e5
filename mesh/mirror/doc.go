// Package mirror counts how the copies of calls that were sent to a mirror
// compare with the originals. It comes after the outcome in the flow of a call.
//
// This package makes no promise of a stable API.
package mirror
