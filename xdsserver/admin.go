package xdsserver

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/meshframe/meshframe/xdsserver/config"
	"github.com/meshframe/meshframe/xdsserver/registry"
	"github.com/meshframe/meshframe/xdsserver/support"
)

// Admin returns the handler of the admin endpoint:
//
//	/healthz        the process is alive
//	/readyz         the configuration is served (503 after Close)
//	/metrics        Prometheus
//	/debug/config   the model as served: objects, services, and the problems of each file
//	/debug/clients  each client and, of each type, the version sent, accepted and refused, with the client's error; and
//	                which fields it does not do as they are written, of the objects that its resources are made of
//	/debug/support  the same of all objects, for each type of client; ?client=grpc-go for one type, or
//	                grpc-go@1.50 for a release of it
func (s *Server) Admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if s.ctx.Err() != nil {
			writeText(w, http.StatusServiceUnavailable, "shutting down")
			return
		}
		writeText(w, http.StatusOK, "ready")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/config", func(w http.ResponseWriter, _ *http.Request) { s.writeJSON(w, s.debugConfig()) })
	mux.HandleFunc("GET /debug/clients", func(w http.ResponseWriter, _ *http.Request) { s.writeJSON(w, s.debugClients()) })
	mux.HandleFunc("GET /debug/support", s.serveSupport)
	return mux
}

func writeText(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(text + "\n")) // the client is gone: nobody to tell
}

func (s *Server) writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		s.log.Debug("an answer of the admin endpoint was not sent", "error", err)
	}
}

// configDump is /debug/config.
type configDump struct {
	Domain         string                  `json:"domain"`
	OutboundPolicy string                  `json:"outboundPolicy"`
	Registration   string                  `json:"registration"`
	Loaded         time.Time               `json:"loaded"`
	Restored       bool                    `json:"restored,omitempty"` // some files are bad and served as before a restart
	Refused        []string                `json:"refused"`            // files whose present content is not in force
	Problems       []problemDump           `json:"problems"`
	Objects        []objectDump            `json:"objects"`
	Services       []serviceDump           `json:"services"`
	Registrations  []registry.Registration `json:"registrations"`
}

type problemDump struct {
	Severity string `json:"severity"`
	File     string `json:"file,omitempty"`
	Line     int    `json:"line,omitempty"`
	Object   string `json:"object,omitempty"`
	Field    string `json:"field,omitempty"`
	Message  string `json:"message"`
}

type objectDump struct {
	Kind      string          `json:"kind"`
	Namespace string          `json:"namespace"`
	Name      string          `json:"name"`
	File      string          `json:"file"`
	Line      int             `json:"line"`
	Served    bool            `json:"served"`
	Spec      json.RawMessage `json:"spec,omitempty"`
}

type serviceDump struct {
	Host       string              `json:"host"`
	Namespace  string              `json:"namespace,omitempty"`
	Resolution string              `json:"resolution"`
	Ports      []registry.Port     `json:"ports"`
	Endpoints  []registry.Endpoint `json:"endpoints"`
	Source     string              `json:"source"`
}

func (s *Server) debugConfig() configDump {
	state := s.loader.current()
	out := configDump{
		Domain: state.model.Domain, OutboundPolicy: s.opts.OutboundPolicy.String(), Registration: s.opts.Registration.String(),
		Loaded: state.loaded.UTC(), Restored: state.restored, Refused: orEmpty(config.Refused(state.problems)),
		Problems: []problemDump{}, Objects: dumpObjects(state.model), Services: dumpServices(s.builder.current().Index()),
		Registrations: orEmpty(s.registry.Registrations()),
	}
	for _, p := range state.problems {
		d := problemDump{Severity: p.Severity.String(), File: p.File, Line: p.Line, Field: p.Field, Message: p.Message}
		if p.Kind != "" {
			d.Object = p.Kind
		}
		if p.Name != "" {
			d.Object += " " + p.Namespace + "/" + p.Name
		}
		out.Problems = append(out.Problems, d)
	}
	slices.SortFunc(out.Registrations, func(a, b registry.Registration) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Address, b.Address))
	})
	return out
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func dumpObjects(m *config.Model) []objectDump {
	out := []objectDump{}
	add := func(o *config.Meta, served bool, spec any) {
		d := objectDump{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name, File: o.Source.File, Line: o.Source.Line, Served: served}
		switch v := spec.(type) {
		case proto.Message:
			d.Spec, _ = protojson.Marshal(v) // left out if it cannot be shown
		default:
			d.Spec, _ = json.Marshal(v)
		}
		out = append(out, d)
	}
	for _, o := range m.VirtualServices {
		add(o.Meta, true, o.Spec)
	}
	for _, o := range m.DestinationRules {
		add(o.Meta, true, o.Spec)
	}
	for _, o := range m.ServiceEntries {
		add(o.Meta, true, o.Spec)
	}
	for _, o := range m.WorkloadEntries {
		add(o.Meta, true, o.Spec)
	}
	for _, o := range m.Services {
		add(o.Meta, true, o.Spec.Spec)
	}
	for _, o := range m.EndpointSlices {
		add(o.Meta, true, o.Spec.Endpoints)
	}
	for _, o := range m.Sidecars {
		add(o.Meta, true, o.Spec)
	}
	for _, o := range m.Policies {
		add(o.Meta, true, o.Spec)
	}
	for _, o := range m.Other {
		add(&o.Meta, false, nil)
	}
	return out
}

func dumpServices(x *registry.Index) []serviceDump {
	out := []serviceDump{}
	for _, host := range x.Hosts() {
		v := x.Service(host)
		d := serviceDump{
			Host: v.Host, Namespace: v.Namespace, Resolution: v.Resolution.String(),
			Ports: orEmpty(v.Ports), Endpoints: orEmpty(v.Endpoints), Source: "registration",
		}
		if v.Source != nil {
			d.Source = v.Source.ID()
		}
		out = append(out, d)
	}
	return out
}

func (s *Server) debugClients() []clientStatus {
	out := []clientStatus{}
	for c, entries := range s.builder.support() {
		status := c.status()
		status.Support = entries
		out = append(out, status)
	}
	slices.SortFunc(out, func(a, b clientStatus) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), a.Since.Compare(b.Since), cmp.Compare(a.Remote, b.Remote))
	})
	return out
}

// serveSupport serves /debug/support.
func (s *Server) serveSupport(w http.ResponseWriter, r *http.Request) {
	clients := support.Clients()
	if name := r.URL.Query().Get("client"); name != "" {
		c, err := support.ParseClient(name)
		if err != nil {
			writeText(w, http.StatusBadRequest, fmt.Sprintf("no such client, there are %v; gRPC's own may name a release, as grpc-core@1.51", support.Clients()))
			return
		}
		clients = []support.Client{c}
	}
	world := s.builder.current()
	slices.SortFunc(clients, func(a, b support.Client) int { return cmp.Compare(a.String(), b.String()) })
	w.Header().Set("Content-Type", "application/json")
	// One client after the other: of a large mesh all together are a lot of memory.
	var part bytes.Buffer
	e := json.NewEncoder(&part)
	e.SetIndent("  ", "  ")
	e.SetEscapeHTML(false)
	before := "{"
	for i, c := range clients {
		fmt.Fprintf(&part, "%s\n  %q: ", before, c)
		entries := support.Report(world.Index().Model, c)
		if c.Served() {
			entries = append(entries, world.Notes(c)...)
		}
		err := e.Encode(orEmpty(entries))
		if i == len(clients)-1 {
			part.WriteString("}\n")
		}
		if _, sent := part.WriteTo(w); err != nil || sent != nil {
			s.log.Debug("an answer of the admin endpoint was not sent", "error", errors.Join(err, sent))
			return
		}
		before = "  ,"
	}
}
