package route

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
)

func TestHostOrder(t *testing.T) {
	domains := [][]string{
		{"*"},
		{"example.*", "example.com.*"},
		{"*.com", "*.example.com", "*-x.example.com"},
		{"www.example.com", "EXAMPLE.com:80"},
		{"www.example.com", "*.example.com", "*"},
	}
	for _, test := range []struct {
		authority string
		want      int
		why       string
	}{
		{"www.example.com", 3, "exact before wildcards, first of equals"},
		{"WWW.Example.COM", 3, "case does not matter"},
		{"example.com:80", 3, "nor in domains"},
		{"api.example.com", 2, "suffix wildcard"},
		{"-x.example.com", 2, "a wildcard is not empty; the shorter suffix serves"},
		{"example.com", 2, "suffix *.com before prefix example.*"},
		{"example.com.", 1, "the wildcard of example.com.* would be empty, example.* serves"},
		{"example.com.org", 1, "prefix wildcard"},
		{"example.", 0, "empty wildcard, so only * is left"},
		{"reviews:9080", 0, "*"},
		{"", 0, "*"},
	} {
		if got := FindHost(domains, test.authority); got != test.want {
			t.Errorf("FindHost(%q) = %d, want %d: %s", test.authority, got, test.want, test.why)
		}
		if got := NewHosts(domains).Find(test.authority); got != test.want {
			t.Errorf("Hosts.Find(%q) = %d, want %d: %s", test.authority, got, test.want, test.why)
		}
	}
	if got := NewHosts([][]string{{"a"}}).Find("b"); got != -1 {
		t.Errorf("Find of an unknown host = %d", got)
	}
}

func TestHostsAgreeWithLinearScan(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	g := generator{next: rnd.IntN}
	word := func() string { return g.one("a", "A", ".", "ab", "b", "") + g.one("a", "b", ".a", "") }
	for range 5000 {
		domains := make([][]string, g.next(6))
		for i := range domains {
			for range g.next(4) {
				domains[i] = append(domains[i], g.one("", "", "*")+word()+g.one("", "", "*"))
			}
		}
		hosts := NewHosts(domains)
		for range 5 {
			authority := word() + word()
			if got, want := hosts.Find(authority), FindHost(domains, authority); got != want {
				t.Fatalf("Find(%q) = %d, linear scan = %d of %q", authority, got, want, domains)
			}
		}
	}
}

func BenchmarkHosts(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			domains := make([][]string, n)
			for i := range domains {
				name := fmt.Sprintf("service%05d.default.svc.cluster.local", i)
				domains[i] = []string{name, name + ":9080", "*." + name}
			}
			hosts := NewHosts(domains)
			for b.Loop() {
				if hosts.Find("service00007.default.svc.cluster.local:9080") != 7 {
					b.Fatal("wrong host")
				}
			}
		})
	}
}
