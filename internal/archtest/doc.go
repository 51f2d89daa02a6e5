// Package archtest holds the architecture of the repository as tests: which
// package may import which, that every package says what it is, what no text in
// the tree may contain, and that the support table speaks of every field. It reads the source files themselves, so its
// verdict follows every change; it takes no part in the flow of configuration
// or calls.
//
// This package makes no promise of a stable API.
package archtest
