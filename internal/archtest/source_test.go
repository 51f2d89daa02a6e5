package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// module is the import path of the repository's root.
const module = "github.com/meshframe/meshframe"

// root is the repository's root as seen from this package's folder.
const root = "../.."

// pkg is what the files of one folder declare, tests left out.
type pkg struct {
	path    string // below the module, "" for the root
	name    string
	doc     string
	imports []string
	files   []*ast.File
}

// importPath returns the path with which others import the package.
func (p *pkg) importPath() string { return strings.TrimSuffix(module+"/"+p.path, "/") }

// packages parses every package of the module, by its path below the module.
// Nested modules are their own business.
func packages(t *testing.T) map[string]*pkg {
	t.Helper()
	found := map[string]*pkg{}
	fset := token.NewFileSet()
	walk(t, func(path string) {
		if filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "testdata/") {
			return
		}
		file := parse(t, fset, path)
		dir := filepath.ToSlash(filepath.Dir(path))
		if dir == "." {
			dir = ""
		}
		if found[dir] == nil {
			found[dir] = &pkg{path: dir, name: file.Name.Name}
		}
		found[dir].add(t, file)
	})
	if len(found) < 10 {
		t.Fatalf("found %d packages; the walk is broken", len(found))
	}
	return found
}

// parse reads one Go file, named relative to the root.
func parse(t *testing.T, fset *token.FileSet, path string) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(fset, filepath.Join(root, path), nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatalf("parse %s: %v", path, err)
	}
	return file
}

// add takes a file's comment and imports into the package.
func (p *pkg) add(t *testing.T, file *ast.File) {
	t.Helper()
	p.files = append(p.files, file)
	if file.Doc != nil {
		p.doc += file.Doc.Text()
	}
	for _, spec := range file.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(p.imports, path) {
			p.imports = append(p.imports, path)
		}
	}
	slices.Sort(p.imports)
}

// walk calls visit with the path of every file of the module, relative to its
// root, without nested modules, built programs and what git keeps.
func walk(t *testing.T, visit func(path string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if relative == ".git" && !entry.IsDir() { // a work tree beside the repository
			return nil
		}
		if !entry.IsDir() {
			visit(filepath.ToSlash(relative))
			return nil
		}
		if relative == ".git" || relative == "bin" || relative != "." && isModule(path) {
			return filepath.SkipDir
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// isModule reports whether the folder is a module of its own.
func isModule(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}
