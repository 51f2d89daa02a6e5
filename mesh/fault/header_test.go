package fault

import (
	"math/rand/v2"
	"testing"
	"time"
)

// headers is a map as Headers.
type headers map[string]string

func (h headers) Header(name string) (string, bool) {
	v, ok := h[name]
	return v, ok
}

func TestHeaderFaults(t *testing.T) {
	i := NewInjector(&Policy{
		HeaderDelay: true, DelayFraction: Million, HeaderAbort: true, AbortFraction: Million,
		Delay: time.Hour, AbortHTTP: 500,
	}, &Counter{})
	for _, test := range []struct {
		headers headers
		delay   time.Duration
		abort   Abort
	}{
		{nil, 0, Abort{}},
		{headers{"other": "1"}, 0, Abort{}},
		{headers{delayHeader: "1500"}, 1500 * time.Millisecond, Abort{}},
		{headers{delayHeader: "-1"}, 0, Abort{}},
		{headers{delayHeader: "soon"}, 0, Abort{}},
		{headers{delayHeader: "18446744073709551615"}, 9223372036854 * time.Millisecond, Abort{}},
		{headers{abortHeader: "503"}, 0, Abort{HTTP: 503}},
		{headers{abortHeader: "199"}, 0, Abort{}},
		{headers{abortHeader: "600", abortGRPCHeader: "14"}, 0, Abort{GRPC: 14}},
		{headers{abortHeader: "503", abortGRPCHeader: "14"}, 0, Abort{HTTP: 503}},
		{headers{abortGRPCHeader: "17"}, 0, Abort{}},
		{headers{abortGRPCHeader: "0"}, 0, Abort{HTTP: 200}},
		{headers{delayHeader: "1", abortGRPCHeader: "16"}, time.Millisecond, Abort{GRPC: 16}},
		{headers{delayHeader: "1", delayPercentHeader: "0"}, 0, Abort{}},
	} {
		var h Headers
		if test.headers != nil {
			h = test.headers
		}
		delay, abort, active := i.DrawFor(h, rand.Uint64)
		if delay != test.delay || abort != test.abort || active != (delay > 0 || !abort.None()) {
			t.Errorf("%v: Draw = %v, %+v, %v", test.headers, delay, abort, active)
		}
	}
	if i.active.Active() == 0 {
		t.Error("no fault was counted")
	}
}

// TestHeaderPercentages holds that a header can lower a fraction but never raise
// it, and in which parts it counts.
func TestHeaderPercentages(t *testing.T) {
	for _, test := range []struct {
		configured Fraction
		per        uint32
		header     string
		want       Fraction
	}{
		{500_000, 0, "", 500_000},
		{500_000, 0, "10", 100_000},
		{500_000, 0, "50", 500_000},
		{500_000, 0, "80", 500_000},
		{500_000, 0, "4294967296", 500_000},
		{500_000, 0, "1.5", 500_000},
		{500_000, 10_000, "10", 1000},
		{500_000, Million, "10", 10},
		{Million, Million, "1", 1},
	} {
		h := headers{}
		if test.header != "" {
			h[delayPercentHeader] = test.header
		}
		if got := test.configured.lowered(h, delayPercentHeader, test.per); got != test.want {
			t.Errorf("%+v: %d", test, got)
		}
	}
}

func TestHeaderDrawAllocatesNothing(t *testing.T) {
	i := NewInjector(&Policy{HeaderAbort: true, AbortFraction: Million, MaxActive: 3}, &Counter{})
	var h Headers = headers{abortHeader: "503", abortPercentHeader: "50"}
	if n := testing.AllocsPerRun(100, func() {
		if _, _, active := i.DrawFor(h, rand.Uint64); active {
			i.Done()
		}
	}); n != 0 {
		t.Errorf("Draw allocates %v times", n)
	}
}
