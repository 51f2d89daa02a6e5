package interceptors_test

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/interceptors"
)

func plainDial(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", address)
}

// probes are the socket options of a connection: on, idle, interval, count.
func probes(t *testing.T, conn net.Conn) [4]int {
	t.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var out [4]int
	options := [4][2]int{
		{syscall.SOL_SOCKET, syscall.SO_KEEPALIVE}, {syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE},
		{syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL}, {syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT},
	}
	if err := raw.Control(func(fd uintptr) {
		for i, o := range options {
			n, e := syscall.GetsockoptInt(int(fd), o[0], o[1])
			out[i], err = n, errors.Join(err, e)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestProbesOfTheCluster(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		edit func(*clusterv3.Cluster)
		want [4]int // below 0: any
		own  [4]int // with the caller's dialer
	}{
		{name: "those of Go", edit: func(*clusterv3.Cluster) {}, want: [4]int{1, 15, 15, 9}, own: [4]int{1, 15, 15, 9}},
		{
			name: "all", edit: keepalive(&corev3.TcpKeepalive{
				KeepaliveProbes: wrapperspb.UInt32(3), KeepaliveTime: wrapperspb.UInt32(61), KeepaliveInterval: wrapperspb.UInt32(7),
			}),
			want: [4]int{1, 61, 7, 3}, own: [4]int{1, 61, 7, 3},
		},
		{
			name: "some", edit: keepalive(&corev3.TcpKeepalive{KeepaliveTime: wrapperspb.UInt32(61)}),
			want: [4]int{1, 61, -1, -1}, own: [4]int{1, 61, 15, 9},
		},
		{
			name: "none", edit: keepalive(&corev3.TcpKeepalive{KeepaliveProbes: wrapperspb.UInt32(0)}),
			want: [4]int{0, -1, -1, -1}, own: [4]int{0, -1, -1, -1},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ic, addr := dialing(t, tt.edit)
			for name, d := range map[string]struct {
				dial interceptors.Dialer
				want [4]int
			}{"library": {ic.Dial, tt.want}, "caller": {ic.Within(plainDial), tt.own}} {
				conn, err := d.dial(t.Context(), addr)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				for i, got := range probes(t, conn) {
					if d.want[i] >= 0 && got != d.want[i] {
						t.Errorf("%s: option %d is %d, want %d", name, i, got, d.want[i])
					}
				}
			}
		})
	}
}
