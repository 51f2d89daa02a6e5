package translate_test

import (
	"strings"
	"testing"

	"github.com/meshframe/meshframe/xdsserver/translate"
)

func TestSplitHostPort(t *testing.T) {
	long := strings.Repeat("a.", 126) + "b" // 253
	for name, want := range map[string]struct {
		host string
		port uint32
	}{
		"reviews:9080":           {"reviews", 9080},
		"reviews":                {"reviews", 0},
		"reviews.prod.:80":       {"reviews.prod", 80},
		"Reviews_v1.Example:80":  {"reviews_v1.example", 80},
		"127.0.0.1:80":           {"127.0.0.1", 80},
		"[::1]:80":               {"::1", 80},
		"[::1]":                  {"::1", 0},
		"::1":                    {"::1", 0},
		long + ":80":             {long, 80},
		long + "c:80":            {},
		"":                       {},
		":80":                    {},
		".:80":                   {},
		"a..b:80":                {},
		"a:0":                    {},
		"a:65536":                {},
		"a:http":                 {},
		"a:80:80":                {},
		"a b:80":                 {},
		"a\n:80":                 {},
		"a\x00:80":               {},
		"a/b":                    {},
		"a|b:80":                 {},
		"*:80":                   {},
		"*.example.com:80":       {},
		"[reviews:80":            {},
		"xn--bcher-kva.example":  {"xn--bcher-kva.example", 0},
		"b\u00fccher.example:80": {},
	} {
		host, port, ok := translate.SplitHostPort(name)
		if host != want.host || port != want.port || ok != (want.host != "") {
			t.Errorf("%q: %q, %d, %v", name, host, port, ok)
		}
	}
}
