package decode

import (
	"math/big"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	commonlbv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/common/v3"
	maglevv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/maglev/v3"
	ringhashv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/ring_hash/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/mesh/pick"
)

// Envoy's defaults and limits.
const (
	defaultMinRing   = 1024
	maxRing          = 8 << 20
	defaultTableSize = 65_537
	maxTableSize     = 5_000_011
)

var (
	ringHashConfigFields = newFields("minimum_ring_size", "maximum_ring_size", "hash_function")
	ringHashFields       = newFields("minimum_ring_size", "maximum_ring_size", "hash_function",
		"use_hostname_for_hashing", "consistent_hashing_lb_config", "locality_weighted_lb_config")
	maglevFields         = newFields("table_size", "consistent_hashing_lb_config", "locality_weighted_lb_config")
	consistentHashFields = newFields("use_hostname_for_hashing")
)

// ringHashLBConfig reads ring_hash_lb_config.
func (s *scope) ringHashLBConfig(m *clusterv3.Cluster_RingHashLbConfig, out *pick.Config) error {
	at := s.at("ring_hash_lb_config")
	at.noteRest(m, ringHashConfigFields)
	switch f := m.GetHashFunction(); f {
	case clusterv3.Cluster_RingHashLbConfig_XX_HASH:
	case clusterv3.Cluster_RingHashLbConfig_MURMUR_HASH_2:
		out.Murmur2 = true
	default:
		return at.at("hash_function").errorf("%v is not supported", f)
	}
	return at.ring(m.GetMinimumRingSize(), m.GetMaximumRingSize(), out)
}

func (s *scope) ringHashPolicy(a *anypb.Any, out *pick.Config) error {
	m := &ringhashv3.RingHash{}
	if err := s.policyOptions(a, m, ringHashFields); err != nil {
		return err
	}
	switch f := m.GetHashFunction(); f {
	case ringhashv3.RingHash_DEFAULT_HASH, ringhashv3.RingHash_XX_HASH:
	case ringhashv3.RingHash_MURMUR_HASH_2:
		out.Murmur2 = true
	default:
		return s.at("hash_function").errorf("%v is not supported", f)
	}
	s.consistentHashing(m.GetConsistentHashingLbConfig(), m.GetLocalityWeightedLbConfig(), out)
	out.HashByHostname = out.HashByHostname || m.GetUseHostnameForHashing()
	return s.ring(m.GetMinimumRingSize(), m.GetMaximumRingSize(), out)
}

func (s *scope) ring(least, most *wrapperspb.UInt64Value, out *pick.Config) error {
	out.Policy, out.MinRingSize, out.MaxRingSize = pick.RingHash, defaultMinRing, maxRing
	if most != nil {
		out.MaxRingSize = most.GetValue()
		// A smaller ring than the default minimum is asked for by the maximum alone.
		out.MinRingSize = min(out.MinRingSize, out.MaxRingSize)
	}
	if least != nil {
		out.MinRingSize = max(least.GetValue(), 1)
	}
	switch {
	case out.MaxRingSize == 0 || out.MaxRingSize > maxRing:
		return s.at("maximum_ring_size").errorf("is %d, must be between 1 and %d", out.MaxRingSize, maxRing)
	case out.MinRingSize > maxRing:
		return s.at("minimum_ring_size").errorf("is %d, must be at most %d", out.MinRingSize, maxRing)
	case out.MinRingSize > out.MaxRingSize:
		return s.at("minimum_ring_size").errorf("is %d, greater than maximum_ring_size %d", out.MinRingSize, out.MaxRingSize)
	}
	return nil
}

func (s *scope) maglevPolicy(a *anypb.Any, out *pick.Config) error {
	m := &maglevv3.Maglev{}
	if err := s.policyOptions(a, m, maglevFields); err != nil {
		return err
	}
	s.consistentHashing(m.GetConsistentHashingLbConfig(), m.GetLocalityWeightedLbConfig(), out)
	return s.maglev(m.GetTableSize(), out)
}

func (s *scope) maglev(size *wrapperspb.UInt64Value, out *pick.Config) error {
	out.Policy, out.TableSize = pick.Maglev, defaultTableSize
	if size != nil {
		out.TableSize = size.GetValue()
	}
	if out.TableSize > maxTableSize || !new(big.Int).SetUint64(out.TableSize).ProbablyPrime(0) {
		return s.at("table_size").errorf("is %d, must be a prime of at most %d", out.TableSize, maxTableSize)
	}
	return nil
}

// consistentHashing reads what the hashing policies have in common.
func (s *scope) consistentHashing(m *commonlbv3.ConsistentHashingLbConfig,
	weighted *commonlbv3.LocalityLbConfig_LocalityWeightedLbConfig, out *pick.Config,
) {
	at := s.at("consistent_hashing_lb_config")
	at.noteRest(m, consistentHashFields)
	out.HashByHostname = m.GetUseHostnameForHashing()
	s.at("locality_weighted_lb_config").noteRest(weighted, noFields)
	out.LocalityWeighted = weighted != nil
}
