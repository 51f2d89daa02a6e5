package stripe

import (
	"runtime"
	"sync"
	"testing"
	"time"
)

// BenchmarkTogether is what it costs that all processors count the same: batches
// by all of them of one counter, and of one each, in turn. x-private is 1 where
// they do not feel each other.
func BenchmarkTogether(b *testing.B) {
	type counter interface{ count(Place) }
	for name, create := range map[string]func() counter{
		"gauge":    func() counter { return new(benchGauge) },
		"sequence": func() counter { return new(benchSequence) },
	} {
		b.Run(name, func(b *testing.B) {
			one, each := create(), make([]counter, runtime.GOMAXPROCS(0))
			for i := range each {
				each[i] = create()
			}
			var together, apart time.Duration
			for b.Loop() {
				together += byAll(func(_ int, at Place) { one.count(at) })
				apart += byAll(func(i int, at Place) { each[i].count(at) })
			}
			b.ReportMetric(float64(together.Nanoseconds())/float64(b.N*batch), "ns/count")
			b.ReportMetric(float64(together)/float64(apart), "x-private")
		})
	}
}

const batch = 10_000

func byAll(count func(processor int, at Place)) time.Duration {
	var wg sync.WaitGroup
	start := time.Now()
	for i := range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for range batch {
				count(i, Here())
			}
		})
	}
	wg.Wait()
	return time.Since(start)
}

type benchGauge struct{ Gauge }

func (g *benchGauge) count(at Place) {
	g.Begin(at)
	g.End(at)
}

type benchSequence struct{ Sequence }

func (s *benchSequence) count(at Place) { s.Next(at) }
