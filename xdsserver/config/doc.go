// Package config reads Istio's resources: it decodes them strictly, checks them as Istio does, resolves short names
// and puts them into one immutable Model that xdsserver/registry and xdsserver/translate read.
//
// It is the first stage of the control plane. Bytes come from xdsserver/files (or from memory), go through Parse, one
// file at a time, and through Build, all files together:
//
//	bytes ─▶ Parse ─▶ File{Objects, Problems} ─▶ Build ─▶ Model, Problems
//
// The package is pure: it opens no file, starts no goroutine and reads no clock. Whatever is wrong becomes a Problem
// with file, line, object, field and a sentence that says what was expected; nothing that a file holds makes it panic.
//
// The identity of an object's content is its Spec pointer: as long as nothing that matters changes in an object
// (position, comments, status and managed fields do not matter), Build keeps the pointer of the model before.
//
// This package makes no promise of a stable API.
package config
