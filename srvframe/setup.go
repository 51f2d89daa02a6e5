package srvframe

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/meshframe/meshframe/interceptors"
	"github.com/meshframe/meshframe/resolver/bootstrap"
	"github.com/meshframe/meshframe/resolver/xdsclient"
)

// inMemory is the address handed to Options.Dialer when no other is given.
const inMemory = "in-memory"

// setup is what Options mean, checked and with every default filled in.
type setup struct {
	logger     *slog.Logger
	bootstrap  *bootstrap.Config
	ads        xdsclient.Config
	address    netip.Addr // of this process; may be unknown
	fallbacks  map[string]interceptors.Fallback
	drainDelay time.Duration
	stateDir   string // empty keeps nothing

	returnLinger time.Duration // see watch.Config; 0 is its default
}

// optionError is what is wrong with one of the options.
type optionError struct {
	option string // its field of Options
	err    error
}

func (e *optionError) Error() string { return e.err.Error() }
func (e *optionError) Unwrap() error { return e.err }

// namespacePattern is what Kubernetes lets a namespace be called (RFC 1123 label).
var namespacePattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// setup checks the options. given is a bootstrap that was read already, or nil.
func (o Options) setup(given *bootstrap.Config) (*setup, error) {
	services, err := parseServices(o.Service)
	if err != nil {
		return nil, &optionError{"Service", err}
	}
	address, err := parseAddress(o.Address)
	if err != nil {
		return nil, &optionError{"Address", err}
	}
	if _, err := parseLocality(o.Locality); err != nil {
		return nil, &optionError{"Locality", err}
	}
	if o.Namespace != "" && !namespacePattern.MatchString(o.Namespace) {
		return nil, &optionError{"Namespace", fmt.Errorf("namespace %q: want lower-case letters, digits and dashes, 63 at most", o.Namespace)}
	}
	config, err := o.bootstrap(given, services)
	if err != nil {
		return nil, err
	}
	s := &setup{
		logger: cmp.Or(o.Logger, slog.Default()), bootstrap: config,
		address: address, fallbacks: o.fallbacks(), drainDelay: cmp.Or(o.DrainDelay, DefaultDrainDelay),
		stateDir: o.StateDir,
	}
	s.ads = xdsclient.Config{Servers: o.servers(config), Node: config.Node, Logger: s.logger}
	if o.StateDir != "" {
		if s.ads.Cache, err = xdsclient.NewFileStore(o.StateDir); err != nil {
			return nil, &optionError{"StateDir", err}
		}
	}
	for _, warning := range config.Warnings {
		s.logger.Warn("srvframe: bootstrap", "source", config.Source, "ignored", warning)
	}
	return s, nil
}

// fallbacks are the functions as interceptors take them.
func (o Options) fallbacks() map[string]interceptors.Fallback {
	functions := make(map[string]interceptors.Fallback, len(o.Fallbacks))
	for name, f := range o.Fallbacks {
		functions[name] = interceptors.Fallback(f)
	}
	return functions
}

// bootstrap returns the bootstrap that was given, or that the options bring or
// describe.
func (o Options) bootstrap(given *bootstrap.Config, services []string) (*bootstrap.Config, error) {
	var err error
	switch {
	case o.XDS != "" && o.Bootstrap != nil:
		return nil, errors.New("both an address and a bootstrap name a control plane: want one of them")
	case o.Bootstrap != nil:
		if given, err = bootstrap.Parse(o.Bootstrap); err != nil {
			return nil, err
		}
	case o.XDS != "":
		if err := checkHostPort(o.XDS); err != nil {
			return nil, &optionError{"XDS", fmt.Errorf("address of the control plane %q: %w", o.XDS, err)}
		}
		return bootstrap.Default(o.XDS, o.workload(services)), nil
	case given == nil && o.Dialer != nil:
		return bootstrap.Default(inMemory, o.workload(services)), nil
	case given == nil:
		return nil, errors.New("nothing names a control plane: set XDS, Bootstrap or Dialer")
	}
	o.describe(given, services)
	return given, nil
}

// servers are the control planes of a bootstrap as xdsclient takes them.
func (o Options) servers(config *bootstrap.Config) []xdsclient.Server {
	servers := make([]xdsclient.Server, 0, len(config.Servers))
	for _, server := range config.Servers {
		servers = append(servers, xdsclient.Server{
			URI: server.URI, Credentials: server.Creds, Dialer: o.Dialer,
			IgnoreResourceDeletion: server.IgnoreResourceDeletion(),
		})
	}
	return servers
}

// workload describes a process that brings no bootstrap. Its name is unique: a
// control plane keeps registrations apart by node.
func (o Options) workload(services []string) bootstrap.Workload {
	name := "client"
	if o.Service != "" {
		name = o.Service[:strings.IndexAny(o.Service+":", ".:")]
	}
	locality, _ := parseLocality(o.Locality) // setup has checked it
	return bootstrap.Workload{
		Name:      name + "-" + strings.ToLower(rand.Text()[:8]),
		Namespace: o.Namespace, Address: o.Address, Labels: o.Labels, Services: services, Locality: locality,
	}
}

// describe adds what the options say of this process to a bootstrap's node, in
// the way of bootstrap.Default.
func (o Options) describe(config *bootstrap.Config, services []string) {
	if len(services) > 0 && config.ServerListenerResourceNameTemplate == "" {
		config.ServerListenerResourceNameTemplate = bootstrap.DefaultServerTemplate
	}
	workload := o.workload(services)
	ours := bootstrap.Default("", workload).Node.Metadata.Fields
	if workload.Locality != nil {
		config.Node.Locality = workload.Locality
	}
	if config.Node.Metadata.GetFields() == nil {
		config.Node.Metadata = &structpb.Struct{Fields: map[string]*structpb.Value{}}
	}
	for key, value := range ours {
		_, there := config.Node.Metadata.Fields[key]
		if there && (key == "GENERATOR" || key == "NAMESPACE" && o.Namespace == "") {
			continue
		}
		config.Node.Metadata.Fields[key] = value
	}
}

// parseServices reads the services that a server stands for: host:port, or
// host:port=listenPort, with commas between several.
func parseServices(text string) ([]string, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var services []string
	for service := range strings.SplitSeq(text, ",") {
		service = strings.TrimSpace(service)
		host, listen, split := strings.Cut(service, "=")
		if err := checkHostPort(host); err != nil {
			return nil, fmt.Errorf("service %q: %w", service, err)
		}
		if split {
			if err := checkPort(listen); err != nil {
				return nil, fmt.Errorf("service %q: after the equals sign: %w", service, err)
			}
		}
		services = append(services, service)
	}
	return services, nil
}

// parseLocality reads region/zone/subzone; nil means unknown.
func parseLocality(text string) (*corev3.Locality, error) {
	if text == "" {
		return nil, nil
	}
	parts := strings.Split(text, "/")
	if len(parts) > 3 || slices.Contains(parts, "") {
		return nil, fmt.Errorf("locality %q: want region/zone/subzone, of which the later parts may be left out", text)
	}
	parts = append(parts, "", "")
	return &corev3.Locality{Region: parts[0], Zone: parts[1], SubZone: parts[2]}, nil
}

// parseAddress reads the IP address that a process has for others.
func parseAddress(text string) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	address, err := netip.ParseAddr(text)
	if err != nil || address.IsUnspecified() {
		return netip.Addr{}, fmt.Errorf("address %q: want the IP address at which others reach this process", text)
	}
	return address, nil
}

// checkHostPort checks that the text is a host and a port.
func checkHostPort(text string) error {
	host, port, err := net.SplitHostPort(text)
	if err != nil || host == "" {
		return errors.New("want host:port")
	}
	return checkPort(port)
}

// checkPort checks that the text is the number of a port.
func checkPort(text string) error {
	if port, err := strconv.ParseUint(text, 10, 16); err != nil || port == 0 {
		return fmt.Errorf("port %q: want a number from 1 to 65535", text)
	}
	return nil
}
