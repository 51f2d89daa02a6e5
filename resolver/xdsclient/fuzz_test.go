package xdsclient

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

const (
	fuzzFull    = "type.example/full"
	fuzzPartial = "type.example/partial"
)

// fuzzType decodes "name=text"; what the text begins with decides its fate.
func fuzzType(url string) *ResourceType[string] {
	return &ResourceType[string]{TypeURL: url, FullState: url == fuzzFull, Decode: func(_ string, body []byte) Decoded[string] {
		name, text, _ := bytes.Cut(body, []byte("="))
		d := Decoded[string]{Name: string(name), Value: string(text), Usable: true}
		switch {
		case bytes.HasPrefix(text, []byte("bad")):
			d.Usable, d.Err = false, errors.New(string(text))
		case bytes.HasPrefix(text, []byte("part")):
			d.Err = errors.New(string(text))
		case bytes.HasPrefix(text, []byte("silent")):
			d.Usable = false
		case bytes.HasPrefix(text, []byte("panic")):
			panic(string(text))
		}
		return d
	}}
}

type fuzzWatcher struct{}

func (fuzzWatcher) Update(_ Update[string], done func()) { done() }

func (fuzzWatcher) Missing(_ string, err error, done func()) { _ = err.Error(); done() }

func (fuzzWatcher) Error(_ string, err error, done func()) { _ = err.Error(); done() }

// FuzzResponses hands arbitrary responses to a stream of either protocol, twice
// each, and checks that what the client answers can be sent.
func FuzzResponses(f *testing.F) {
	resource := func(name, body string) *discoveryv3.Resource {
		return &discoveryv3.Resource{Name: name, Version: "1", Resource: &anypb.Any{TypeUrl: fuzzFull, Value: []byte(body)}}
	}
	seed := func(m proto.Message) []byte {
		out, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		return out
	}
	wrapped, err := anypb.New(resource("a", "a=1"))
	if err != nil {
		f.Fatal(err)
	}
	notFound := []*discoveryv3.ResourceError{{ResourceName: &discoveryv3.ResourceName{Name: "a"}, ErrorDetail: status.New(codes.NotFound, "").Proto()}, {}}
	f.Add(seed(&discoveryv3.DeltaDiscoveryResponse{
		TypeUrl: fuzzFull, Nonce: "n", RemovedResources: []string{"b", "zz"}, ResourceErrors: notFound,
		Resources: []*discoveryv3.Resource{resource("a", "a=1"), resource("b", "c=bad"), resource("c", "=panic"), resource("", ""), {Name: "a"}, {}},
	}))
	f.Add(seed(&discoveryv3.DiscoveryResponse{
		TypeUrl: fuzzFull, Nonce: "n", VersionInfo: "1", ResourceErrors: notFound,
		Resources: []*anypb.Any{wrapped, {TypeUrl: fuzzFull, Value: []byte("a=part\xff")}, {TypeUrl: fuzzFull, Value: []byte("b=silent")}, {}, {TypeUrl: wrapperURL, Value: []byte{1}}, {TypeUrl: wrapperURL}},
	}))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, p := range []Protocol{Delta, StateOfTheWorld} {
			feed(t, p, data)
		}
	})
}

func feed(t *testing.T, p Protocol, data []byte) {
	t.Helper()
	read := func() *response {
		if p == Delta {
			var m discoveryv3.DeltaDiscoveryResponse
			if proto.Unmarshal(data, &m) != nil {
				return nil
			}
			return fromDelta(&m)
		}
		var m discoveryv3.DiscoveryResponse
		if proto.Unmarshal(data, &m) != nil {
			return nil
		}
		return fromSotW(&m)
	}
	if read() == nil {
		return
	}
	c, st := detached(t, p)
	defer c.calls.stop()
	full, partial := fuzzType(fuzzFull), fuzzType(fuzzPartial)
	for _, name := range []string{"a", "b", "c"} {
		Watch(c, full, name, fuzzWatcher{})
	}
	cancel := Watch(c, partial, "a", fuzzWatcher{})
	now := time.Now()
	for i := range 3 {
		c.flush()
		batch, _ := st.plan(now)
		for _, r := range batch {
			sendable(t, p, r)
		}
		if i == 1 {
			cancel()
		}
		<-st.handle(read()).free
		now = now.Add(nackInterval)
	}
	for _, s := range c.Status().Resources {
		if s.State == Accepted && s.Err != nil || s.State == Missing && s.Version != "" {
			t.Errorf("status contradicts itself: %+v", s)
		}
	}
}

// sendable fails if a request cannot be written to the wire.
func sendable(t *testing.T, p Protocol, r *request) {
	t.Helper()
	var err error
	if p == Delta {
		err = deltaWire{deltaMarshaler{}}.send(r)
	} else {
		err = sotwWire{sotwMarshaler{}}.send(r)
	}
	if err != nil {
		t.Fatalf("request %+v cannot be sent: %v", r, err)
	}
}

// deltaMarshaler and sotwMarshaler are streams that only marshal.
type (
	deltaMarshaler struct {
		discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	}
	sotwMarshaler struct {
		discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient
	}
)

func (deltaMarshaler) Send(m *discoveryv3.DeltaDiscoveryRequest) error { return marshal(m) }

func (sotwMarshaler) Send(m *discoveryv3.DiscoveryRequest) error { return marshal(m) }

func marshal(m proto.Message) error {
	_, err := proto.Marshal(m)
	return err
}

// FuzzSaved reads arbitrary files, as they are and with a good frame, and checks
// that what is read is written and read the same again.
func FuzzSaved(f *testing.F) {
	whole := encodeSaved(&Saved{Key: Key{fuzzFull, "a"}, Version: "1", Server: "cp", Accepted: time.Unix(1, 2), Body: []byte("a=1")})
	f.Add(whole)
	f.Add(whole[len(fileMagic) : len(whole)-crc32.Size])
	f.Add([]byte("\x01a\x01b\x00\x00\x00\x80\x94\xeb\xdc\x03\x00"))
	f.Add([]byte("\x01a\x01b\x00\x00\x00\x00\x05"))
	f.Add([]byte("\x02a"))
	f.Add(bytes.Repeat([]byte{0xff}, 40))
	f.Fuzz(func(t *testing.T, data []byte) {
		framed := append([]byte(fileMagic), data...)
		framed = binary.LittleEndian.AppendUint32(framed, crc32.Checksum(framed, castagnoli))
		for _, file := range [][]byte{data, framed} {
			s, err := decodeSaved(file)
			if err != nil {
				continue
			}
			again, err := decodeSaved(encodeSaved(&s))
			if diff := cmp.Diff(s, again); err != nil || diff != "" {
				t.Errorf("written and read again: %v, -want +got:\n%s", err, diff)
			}
			if n := len(encodeSaved(&s)); int64(n) > s.size() {
				t.Errorf("size() is %d, the file has %d bytes", s.size(), n)
			}
		}
	})
}
