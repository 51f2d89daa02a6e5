package xdsserver

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshframe/meshframe/xdsserver/config"
	"github.com/meshframe/meshframe/xdsserver/files"
)

// A configuration that cannot be kept for a restart is kept when it can be, at the latest at the end, though it does not
// change any more. It is said once that it cannot.
func TestAConfigurationThatCannotBeKeptIsKeptLater(t *testing.T) {
	for _, how := range []string{"as time passes", "at the end"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				l := newLoader(Options{StateDir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(&log, nil))}.withDefaults(), newMetrics(), func(*config.Model) {})
				if err := l.start(t.Context()); err != nil {
					t.Fatal(err)
				}
				inTheWay := filepath.Join(l.statePath(), "x")
				if err := os.Remove(l.statePath()); err != nil {
					t.Fatal(err)
				}
				if err := os.MkdirAll(inTheWay, 0o700); err != nil {
					t.Fatal(err)
				}
				want := "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n"
				if _, err := l.apply(map[string][]byte{"a.yaml": []byte(want)}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * keepAgain)
				if err := os.RemoveAll(l.statePath()); err != nil {
					t.Fatal(err)
				}
				if how == "at the end" {
					l.close()
				} else {
					time.Sleep(2 * keepAgain)
				}
				set, err := files.LoadSet(l.statePath())
				if err != nil || string(set["a.yaml"]) != want {
					t.Errorf("kept: %v, %q", err, set)
				}
				l.close()
				if n := strings.Count(log.String(), "cannot be kept"); n != 1 {
					t.Errorf("logged %d times, want once:\n%s", n, log.String())
				}
			})
		})
	}
}
