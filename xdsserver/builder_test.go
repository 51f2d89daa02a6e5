package xdsserver

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"

	"github.com/meshframe/meshframe/xdsserver/config"
	"github.com/meshframe/meshframe/xdsserver/registry"
	"github.com/meshframe/meshframe/xdsserver/translate"
)

// A time that was stopped when it was over already does not end the next one.
func TestRetiringBeginsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := config.Build(nil, config.Options{})
		w := translate.NewWorld(registry.NewIndex(m), translate.Options{RegistryOnly: true}, nil)
		b := newBuilder(w, NewCache(), slog.New(slog.DiscardHandler), newMetrics(), time.Second)
		defer b.close()
		u := &unit{unitKey: unitKey{resource.ClusterType, "outbound|80||a.example.com"}, view: b.view(translate.Client{}), served: true}
		b.mu.Lock()
		b.retireLater(u)
		time.Sleep(time.Second) // its end waits for the lock
		u.stopRetiring()
		b.retireLater(u)
		b.mu.Unlock()
		time.Sleep(time.Second / 2)
		b.mu.Lock()
		if !u.served || u.retire == nil {
			t.Error("it is over too soon")
		}
		b.mu.Unlock()
		time.Sleep(time.Second)
		b.mu.Lock()
		if u.served || u.retire != nil {
			t.Error("it is not over")
		}
		b.mu.Unlock()
	})
}

// Of clients that come from views in which a resource ends at different times, none loses it too soon.
func TestTheLatestEndIsInherited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := config.Build(nil, config.Options{})
		w := translate.NewWorld(registry.NewIndex(m), translate.Options{RegistryOnly: true}, nil)
		b := newBuilder(w, NewCache(), slog.New(slog.DiscardHandler), newMetrics(), 10*time.Second)
		defer b.close()
		b.mu.Lock()
		defer b.mu.Unlock()
		key := unitKey{resource.ClusterType, "outbound|80||a.example.com"}
		from := func(end time.Duration) *view {
			v := &view{key: end.String(), units: map[unitKey]*unit{}}
			v.units[key] = &unit{unitKey: key, view: v, served: true}
			b.retireAt(v.units[key], time.Now().Add(end))
			b.views[v.key] = v
			return v
		}
		for _, ends := range [][]time.Duration{{2 * time.Second, 5 * time.Second}, {5 * time.Second, 2 * time.Second}} {
			to := &view{key: "to", units: map[unitKey]*unit{}}
			for _, end := range ends {
				b.acquire(to, key.typeURL, []string{key.name})
				b.inherit(from(end), to, key.typeURL, []string{key.name})
			}
			if u := to.units[key]; !u.served || !u.until.Equal(time.Now().Add(5*time.Second)) {
				t.Errorf("%v: served %v until %v", ends, u.served, u.until)
			}
			to.units[key].stopRetiring()
		}
	})
}
