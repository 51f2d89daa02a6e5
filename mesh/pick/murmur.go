package pick

import "encoding/binary"

// murmur2 is the 64-bit MurmurHash2 with the seed that std::hash of libstdc++
// uses, which is what MURMUR_HASH_2 means in xDS.
func murmur2(key []byte) uint64 {
	const (
		seed = 0xc70f6907
		mul  = 0xc6a4a7935bd1e995
	)
	mix := func(v uint64) uint64 { return v ^ v>>47 }
	hash := seed ^ uint64(len(key))*mul
	for ; len(key) >= 8; key = key[8:] {
		hash ^= mix(binary.LittleEndian.Uint64(key)*mul) * mul
		hash *= mul
	}
	if len(key) > 0 {
		var rest [8]byte
		copy(rest[:], key)
		hash ^= binary.LittleEndian.Uint64(rest[:])
		hash *= mul
	}
	return mix(mix(hash) * mul)
}
