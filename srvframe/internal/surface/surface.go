// Package surface reads the exported identifiers of a Go package from its
// source and writes srvframe's forwarding declarations for those of package
// google.golang.org/grpc. It stands beside the flow of configuration and calls:
// only srvframe's generator and the test that compares the two surfaces use it.
//
// This package makes no promise of a stable API.
package surface

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// Kind says what an identifier is: a constant, a variable, a type or a function.
type Kind token.Token

// The kinds of exported identifiers.
const (
	Const Kind = Kind(token.CONST)
	Var   Kind = Kind(token.VAR)
	Type  Kind = Kind(token.TYPE)
	Func  Kind = Kind(token.FUNC)
)

// String returns the keyword that declares identifiers of the kind.
func (k Kind) String() string { return token.Token(k).String() }

// Identifier is one exported, package-level declaration.
type Identifier struct {
	// Name is the name without the package.
	Name string
	// Kind says how it is declared.
	Kind Kind
	// Deprecated says whether its doc comment has a "Deprecated:" paragraph.
	Deprecated bool

	// params are the type parameters of a generic type, otherwise nil.
	params *ast.FieldList
	// signature is the type of a function, otherwise nil.
	signature *ast.FuncType
	// imports are the imports of the file that holds it: path by local name.
	imports map[string]string
}

// Package is the exported surface of a package: its identifiers by name.
type Package map[string]*Identifier

// Names returns the names of the identifiers in order.
func (p Package) Names() []string {
	names := make([]string, 0, len(p))
	for name := range p {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// GRPCDir returns the folder that holds the source of package
// google.golang.org/grpc, in the version that the module around dir requires.
func GRPCDir(ctx context.Context, dir string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", "google.golang.org/grpc")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("find the source of google.golang.org/grpc: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// Parse reads the Go files of the folder, without tests and without the file
// named except, and returns what they export. Build constraints are not looked
// at: an identifier counts when any file declares it.
func Parse(dir, except string) (Package, error) {
	keep := func(f fs.FileInfo) bool {
		return f.Name() != except && !strings.HasSuffix(f.Name(), "_test.go")
	}
	parsed, err := parseDir(dir, keep)
	if err != nil {
		return nil, err
	}
	result := Package{}
	for _, file := range parsed {
		imports := fileImports(file)
		for _, decl := range file.Decls {
			for _, id := range exported(decl) {
				id.imports = imports
				result[id.Name] = id
			}
		}
	}
	return result, nil
}

// fileImports returns the imports of a file by the name they have in it.
func fileImports(file *ast.File) map[string]string {
	imports := map[string]string{}
	for _, spec := range file.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser accepts no such import
		}
		name := path[strings.LastIndex(path, "/")+1:]
		if spec.Name != nil {
			name = spec.Name.Name
		}
		imports[name] = path
	}
	return imports
}

// exported returns the exported package-level identifiers of a declaration.
func exported(decl ast.Decl) []*Identifier {
	switch decl := decl.(type) {
	case *ast.FuncDecl:
		if decl.Recv != nil || !decl.Name.IsExported() {
			return nil
		}
		return []*Identifier{{
			Name: decl.Name.Name, Kind: Func, signature: decl.Type, Deprecated: deprecated(decl.Doc),
		}}
	case *ast.GenDecl:
		var ids []*Identifier
		for _, spec := range decl.Specs {
			ids = append(ids, exportedSpec(decl, spec)...)
		}
		return ids
	}
	return nil
}

// exportedSpec returns the exported identifiers of one line of a declaration.
func exportedSpec(decl *ast.GenDecl, spec ast.Spec) []*Identifier {
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		if !spec.Name.IsExported() {
			return nil
		}
		return []*Identifier{{
			Name: spec.Name.Name, Kind: Type, params: spec.TypeParams,
			Deprecated: deprecated(decl.Doc) || deprecated(spec.Doc),
		}}
	case *ast.ValueSpec:
		var ids []*Identifier
		for _, name := range spec.Names {
			if name.IsExported() {
				ids = append(ids, &Identifier{
					Name: name.Name, Kind: Kind(decl.Tok),
					Deprecated: deprecated(decl.Doc) || deprecated(spec.Doc),
				})
			}
		}
		return ids
	}
	return nil
}

// deprecated reports whether a doc comment says so in the way that tools read.
func deprecated(doc *ast.CommentGroup) bool {
	return doc != nil && strings.Contains("\n"+doc.Text(), "\nDeprecated: ")
}

// parseDir parses the Go files of a folder that keep accepts, in order of name.
func parseDir(dir string, keep func(fs.FileInfo) bool) ([]*ast.File, error) {
	names, err := goFiles(dir, keep)
	if err != nil {
		return nil, err
	}
	fset := token.NewFileSet()
	files := make([]*ast.File, 0, len(names))
	for _, name := range names {
		file, err := parser.ParseFile(fset, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("read Go source: %w", err)
		}
		files = append(files, file)
	}
	return files, nil
}
