// Package mirror draws which calls are copied and counts how the copies compare
// with the originals.
//
// This package makes no promise of a stable API.
package mirror
