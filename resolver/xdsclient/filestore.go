package xdsclient

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// FileStore is a Store in a directory, one file for each resource. A file is
// written beside its place and renamed, so that it is there as a whole or not at
// all, and carries a checksum. Files that are damaged or not its own are
// reported by Load and left alone until their resource is saved again.
type FileStore struct{ dir string }

// NewFileStore makes a store in a directory of its own, which is created if need
// be, readable by its owner only. Processes that get the same resources, such as
// replicas on one machine, may share it.
func NewFileStore(dir string) (*FileStore, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("xdsclient: store: %w", err)
	}
	return &FileStore{dir: dir}, nil
}

const (
	savedSuffix = ".xds"
	tempPattern = "new-*.tmp"
	// tempAge is the age at which an unfinished file is nobody's any more.
	tempAge = time.Hour

	fileMagic = "meshframe resource 1\n"
	// fileOverhead bounds what a file needs beyond the fields' own bytes.
	fileOverhead = len(fileMagic) + 7*binary.MaxVarintLen64 + crc32.Size
)

// name is the file of a resource.
func (f *FileStore) name(k Key) string {
	sum := sha256.Sum256([]byte(k.TypeURL + "\x00" + k.Name))
	return filepath.Join(f.dir, hex.EncodeToString(sum[:16])+savedSuffix)
}

// Load implements Store. It also removes what a process that died left behind.
func (f *FileStore) Load() ([]Saved, error) {
	files, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, fmt.Errorf("xdsclient: store: %w", err)
	}
	var saved []Saved
	var errs []error
	for _, file := range files {
		path := filepath.Join(f.dir, file.Name())
		switch {
		case strings.HasSuffix(file.Name(), savedSuffix):
			s, err := f.read(path)
			if err != nil {
				errs = append(errs, fmt.Errorf("xdsclient: store: %s: %w", path, err))
				continue
			}
			saved = append(saved, s)
		case isLeftover(file):
			_ = os.Remove(path) // or another process has done so
		}
	}
	return saved, errors.Join(errs...)
}

// isLeftover reports whether a file is one that Save never finished.
func isLeftover(file os.DirEntry) bool {
	if ours, err := filepath.Match(tempPattern, file.Name()); err != nil || !ours {
		return false
	}
	info, err := file.Info()
	return err == nil && time.Since(info.ModTime()) > tempAge
}

func (f *FileStore) read(path string) (Saved, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Saved{}, err
	}
	s, err := decodeSaved(data)
	if err == nil && f.name(s.Key) != path {
		err = fmt.Errorf("it holds %q, which belongs elsewhere", s.Name)
	}
	return s, err
}

// Save implements Store. It does what it can; the error lists the rest.
func (f *FileStore) Save(put []Saved, remove []Key) error {
	var errs []error
	for i := range put {
		if err := f.write(f.name(put[i].Key), encodeSaved(&put[i])); err != nil {
			errs = append(errs, fmt.Errorf("xdsclient: store: %w", err))
		}
	}
	for _, k := range remove {
		if err := os.Remove(f.name(k)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("xdsclient: store: %w", err))
		}
	}
	return errors.Join(errs...)
}

// write replaces a file as a whole.
func (f *FileStore) write(path string, data []byte) error {
	temp, err := os.CreateTemp(f.dir, tempPattern)
	if err != nil {
		return err
	}
	_, err = temp.Write(data)
	err = cmp.Or(err, temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encodeSaved writes a file: a line that names the format, the texts and the body
// each with its length before it, the time in seconds and nanoseconds, and a
// CRC-32C of it all.
func encodeSaved(s *Saved) []byte {
	out := make([]byte, 0, s.size())
	out = append(out, fileMagic...)
	for _, text := range []string{s.TypeURL, s.Name, s.Version, s.Server} {
		out = binary.AppendUvarint(out, uint64(len(text)))
		out = append(out, text...)
	}
	out = binary.AppendVarint(out, s.Accepted.Unix())
	out = binary.AppendUvarint(out, uint64(s.Accepted.Nanosecond()))
	out = binary.AppendUvarint(out, uint64(len(s.Body)))
	out = append(out, s.Body...)
	return binary.LittleEndian.AppendUint32(out, crc32.Checksum(out, castagnoli))
}

var (
	errForeign = errors.New("not a saved resource, or of another version")
	errDamaged = errors.New("damaged")
)

// decodeSaved reads a file.
func decodeSaved(data []byte) (Saved, error) {
	rest, ok := bytes.CutPrefix(data, []byte(fileMagic))
	if !ok || len(rest) < crc32.Size {
		return Saved{}, errForeign
	}
	end := len(data) - crc32.Size
	if crc32.Checksum(data[:end], castagnoli) != binary.LittleEndian.Uint32(data[end:]) {
		return Saved{}, errDamaged
	}
	r := savedReader{rest: rest[:len(rest)-crc32.Size]}
	s := Saved{Key: Key{string(r.bytes()), string(r.bytes())}, Version: string(r.bytes()), Server: string(r.bytes())}
	s.Accepted = time.Unix(r.varint(), int64(r.uvarint(uint64(time.Second-1))))
	s.Body = r.bytes()
	if r.bad || len(r.rest) > 0 {
		return Saved{}, errDamaged
	}
	return s, nil
}

// savedReader reads the fields of a file; bad says that one was not there.
type savedReader struct {
	rest []byte
	bad  bool
}

// uvarint reads a number that is at most limit.
func (r *savedReader) uvarint(limit uint64) uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || v > limit {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *savedReader) varint() int64 {
	v, n := binary.Varint(r.rest)
	if n <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *savedReader) bytes() []byte {
	n := r.uvarint(uint64(len(r.rest)))
	if n > uint64(len(r.rest)) { // the length itself took a part of it
		r.bad, r.rest = true, nil
		return nil
	}
	out := r.rest[:n:n]
	r.rest = r.rest[n:]
	return out
}
