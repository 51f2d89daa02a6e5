// Command meshctl looks at the configuration of a mesh without running one: it finds what is wrong with it, and says what
// each type of client makes of it.
//
//	meshctl analyze mesh.yaml
//
// Everything it knows is in the packages below xdsserver; this is flags and output.
package main

import "os"

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
