package srvframe

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/meshframe/meshframe/balancer"
)

// meshServiceConfig returns the default service config of a mesh target: the
// caller's, with the mesh's balancer and without what the mesh does itself. The
// names of what was left out come back in order, to be logged. An empty text is
// no configuration.
func meshServiceConfig(callers string) (text string, dropped []string, err error) {
	config := map[string]json.RawMessage{}
	if callers != "" {
		if err := json.Unmarshal([]byte(callers), &config); err != nil {
			return "", nil, fmt.Errorf("srvframe: default service config: %w", err)
		}
	}
	for _, name := range []string{"loadBalancingConfig", "loadBalancingPolicy", "retryThrottling"} {
		if remove(config, name) {
			dropped = append(dropped, name)
		}
	}
	dropped, err = dropRetries(config, dropped)
	if err != nil {
		return "", nil, err
	}
	config["loadBalancingConfig"] = json.RawMessage(`[{"` + balancer.Name + `":{}}]`)
	out, err := json.Marshal(config)
	if err != nil {
		return "", nil, fmt.Errorf("srvframe: default service config: %w", err)
	}
	return string(out), dropped, nil
}

// dropRetries takes the retry and hedging policies out of the method
// configurations and adds their names to dropped.
func dropRetries(config map[string]json.RawMessage, dropped []string) ([]string, error) {
	key, raw := find(config, "methodConfig")
	if raw == nil {
		return dropped, nil
	}
	var methods []map[string]json.RawMessage
	if err := json.Unmarshal(raw, &methods); err != nil {
		return nil, fmt.Errorf("srvframe: default service config: methodConfig: %w", err)
	}
	for _, method := range methods {
		for _, name := range []string{"retryPolicy", "hedgingPolicy"} {
			if remove(method, name) && !slices.Contains(dropped, name) {
				dropped = append(dropped, name)
			}
		}
	}
	kept, err := json.Marshal(methods)
	if err != nil {
		return nil, fmt.Errorf("srvframe: default service config: methodConfig: %w", err)
	}
	config[key] = kept
	return dropped, nil
}

// find returns the field of the name and the name as it is written: like gRPC's
// own parser it takes upper and lower case for the same.
func find(fields map[string]json.RawMessage, name string) (key string, value json.RawMessage) {
	for key, value := range fields {
		if strings.EqualFold(key, name) {
			return key, value
		}
	}
	return "", nil
}

// remove deletes the field of the name and reports whether there was one.
func remove(fields map[string]json.RawMessage, name string) bool {
	key, value := find(fields, name)
	delete(fields, key)
	return value != nil
}
