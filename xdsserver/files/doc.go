// Package files reads configuration from disk and watches it: files and directories, as people edit them and as
// Kubernetes mounts them.
//
// It is the edge before xdsserver/config: it turns paths into config.File values, read and parsed, and delivers the whole
// set again after each change, with the files that did not change as they were. What is wrong with a file is in its
// Problems; whether it is used nevertheless is decided by config.Build.
//
// This package makes no promise of a stable API.
package files
