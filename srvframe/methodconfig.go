package srvframe

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/meshframe/meshframe/interceptors"
)

// methodConfig is a methodConfig of a service config, as far as it concerns calls
// as a whole: gRPC applies it to each attempt, and only once there is
// configuration.
type methodConfig struct {
	Name []struct {
		Service string `json:"service"`
		Method  string `json:"method"`
	} `json:"name"`
	WaitForReady bool            `json:"waitForReady"`
	Timeout      json.RawMessage `json:"timeout"`
}

// methodConfigs returns what a service config says about a method: that of the
// method itself, else of its service, else of all. nil is for a config that says
// nothing about any. What gRPC refuses is left to gRPC to refuse.
func methodConfigs(callers string) (func(method string) interceptors.MethodConfig, error) {
	if callers == "" {
		return nil, nil
	}
	var config struct {
		Methods []methodConfig `json:"methodConfig"`
	}
	if err := json.Unmarshal([]byte(callers), &config); err != nil {
		return nil, fmt.Errorf("srvframe: default service config: %w", err)
	}
	said := map[string]interceptors.MethodConfig{}
	something := false
	for _, m := range config.Methods {
		c := interceptors.MethodConfig{WaitForReady: m.WaitForReady, Timeout: m.timeout()}
		something = something || c != interceptors.MethodConfig{}
		for _, n := range m.Name {
			said[methodPath(n.Service, n.Method)] = c
		}
	}
	if !something {
		return nil, nil
	}
	return func(method string) interceptors.MethodConfig {
		if c, ok := said[method]; ok {
			return c
		}
		if c, ok := said[method[:strings.LastIndex(method, "/")+1]]; ok {
			return c
		}
		return said[""]
	}, nil
}

// methodPath is the beginning of the methods that a name stands for, or the whole
// method: "", "/service/" or "/service/method".
func methodPath(service, method string) string {
	if service == "" {
		return ""
	}
	return "/" + service + "/" + method
}

// timeout reads a duration such as "1.5s". What is none of these is none.
func (m *methodConfig) timeout() time.Duration {
	var d durationpb.Duration
	if len(m.Timeout) == 0 || protojson.Unmarshal(m.Timeout, &d) != nil {
		return 0
	}
	return d.AsDuration()
}
