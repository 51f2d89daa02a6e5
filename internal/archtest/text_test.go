package archtest

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// stable are the packages with a promise; every other says that it makes none.
var stable = []string{"srvframe", "srvframe/meshtest", "resolver/xdsclient", "xdsserver"}

const noPromise = "This package makes no promise of a stable API."

// TestPackageComments holds that every package says what it is, and whether
// others may build on it.
func TestPackageComments(t *testing.T) {
	for _, p := range packages(t) {
		opening := "Package " + p.name + " "
		if p.name == "main" {
			opening = "Command " + filepath.Base(p.path) + " "
		}
		doc := strings.Join(strings.Fields(p.doc), " ")
		if !strings.HasPrefix(doc, opening) {
			t.Errorf("%s: its comment does not open with %q", p.importPath(), opening)
		}
		isStable := matchesAny(stable, p.path)
		if promised := strings.Contains(doc, noPromise); p.name != "main" && promised == isStable {
			t.Errorf("%s: stable %v, but its comment has %q: %v", p.importPath(), isStable, noPromise, promised)
		}
	}
}

// clocks are the functions of package time that read a clock or wait for one.
var clocks = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}

// TestEngineHasNoClock holds that the engine is told the time and starts nothing.
func TestEngineHasNoClock(t *testing.T) {
	for _, p := range packages(t) {
		r, ok := ruleFor(p.path)
		if !ok || !r.pure {
			continue
		}
		for _, file := range p.files {
			ast.Inspect(file, func(node ast.Node) bool {
				switch node := node.(type) {
				case *ast.GoStmt:
					t.Errorf("%s: starts a goroutine", p.importPath())
				case *ast.SelectorExpr:
					if x, ok := node.X.(*ast.Ident); ok && x.Name == "time" && matchesAny(clocks, node.Sel.Name) {
						t.Errorf("%s: calls time.%s", p.importPath(), node.Sel.Name)
					}
				}
				return true
			})
		}
	}
}

// TestSleeps holds that no test waits for real time to pass: one that sleeps does
// so in a synctest bubble, where it costs none.
func TestSleeps(t *testing.T) {
	fset := token.NewFileSet()
	walk(t, func(path string) {
		if !strings.HasSuffix(path, "_test.go") {
			return
		}
		file := parse(t, fset, path)
		bubble := slices.ContainsFunc(file.Imports, func(spec *ast.ImportSpec) bool { return spec.Path.Value == `"testing/synctest"` })
		ast.Inspect(file, func(node ast.Node) bool {
			if call, ok := node.(*ast.SelectorExpr); ok && !bubble && call.Sel.Name == "Sleep" {
				if x, ok := call.X.(*ast.Ident); ok && x.Name == "time" {
					t.Errorf("%s: calls time.Sleep in a file without synctest", fset.Position(call.Pos()))
				}
			}
			return true
		})
	})
}

// forbidden is what no text of the repository contains, and why.
var forbidden = []struct {
	pattern *regexp.Regexp
	why     string
}{
	{regexp.MustCompile(`(^|[^A-Za-z0-9_.])/(work|farm|root)/`), "a path of one machine"},
	{regexp.MustCompile(`\b(TODO|FIXME|XX` + `X)\b`), "work left undone; say what is missing in docs/support.md"},
	{regexp.MustCompile(`(?i)\bissues? #?[0-9]+\b`), "a number that means nothing outside"},
}

// TestText holds what no text of the repository contains.
func TestText(t *testing.T) {
	walk(t, func(path string) {
		if strings.HasPrefix(path, "internal/archtest/") {
			return
		}
		data, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		if !utf8.Valid(data) {
			return
		}
		for number, line := range strings.Split(string(data), "\n") {
			for _, f := range forbidden {
				if found := f.pattern.FindString(line); found != "" {
					t.Errorf("%s:%d: %q: %s", path, number+1, found, f.why)
				}
			}
		}
	})
}
