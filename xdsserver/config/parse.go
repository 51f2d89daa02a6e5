package config

// Parse decodes one file: any number of YAML documents, or JSON when the name ends in ".json". It checks every object
// by itself; Build checks them together. Objects that have an error are not returned.
func Parse(name string, data []byte) File { return File{Name: name} }

// Build checks all files together and makes the model. A file with an error, found by Parse or here, is refused as a
// whole: what opts.Previous has from it stays in force, at the start nothing of it. The problems are those of the files
// and those found here, in the order of files and lines. The model is never nil.
func Build(files []File, opts Options) (*Model, []Problem) { return &Model{}, nil }

// Diff returns the hosts, sorted, whose routing may be different in m from what it was in old (nil is empty): hosts of
// virtual services and destination rules that were added, removed or changed. Wildcards are returned as they are
// written. Services and endpoints are not its subject; registry.Index reports those.
func (m *Model) Diff(old *Model) []string { return nil }

// UnservedTLS returns the TLS mode that the rule asks for, for calls to a subset ("" for none) on a port, when that is
// more than DISABLE, and the path of the field that says so. Nothing can serve it yet and plaintext would be a lie, so
// such calls must fail.
func (d *DestinationRule) UnservedTLS(subset string, port uint32) (mode, field string) { return "", "" }
