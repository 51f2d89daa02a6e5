// Package support says, for every field of every resource that xdsserver/config reads and for every type of client, what
// becomes of it: whether it works, what happens instead, or that calls fail. Nothing is ignored in silence.
//
// It stands beside the way from configuration to xDS: xdsserver and meshctl ask it about a config.Model, and write what it
// answers into the log, the admin endpoint and the report of an analysis.
//
//	config.Model ─▶ Report ─▶ Entries: file, line, field, outcome, reason
//
// The tables are data, in one file for each resource. A test walks the types of the resources and fails for a field
// without a row, and for a row without a field. docs/support.md is generated from the same tables.
//
// This package makes no promise of a stable API.
package support
