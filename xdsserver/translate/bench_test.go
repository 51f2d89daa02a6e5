package translate_test

import (
	"os"
	"testing"

	"github.com/meshframe/meshframe/xdsserver/support"
	"github.com/meshframe/meshframe/xdsserver/translate"
)

// What one resource costs to translate, without encoding.
func BenchmarkTranslate(b *testing.B) {
	data, err := os.ReadFile("testdata/policies.yaml")
	if err != nil {
		b.Fatal(err)
	}
	w := world(b, "policies.yaml", data, translate.Options{})
	c := translate.Client{Type: support.Meshframe, Namespace: "default"}
	for name, fn := range map[string]func(){
		"Listener":  func() { w.Listener(c, "reviews:9080") },
		"Route":     func() { w.Route(c, "outbound|9080||reviews.default.svc.cluster.local") },
		"Cluster":   func() { w.Cluster(c, "outbound|9080|v1|reviews.default.svc.cluster.local") },
		"Endpoints": func() { w.Endpoints(c, "outbound|9080|v1|reviews.default.svc.cluster.local") },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				fn()
			}
		})
	}
}
