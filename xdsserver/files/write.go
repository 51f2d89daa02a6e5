package files

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Write replaces a file with new content at once: whoever reads it sees all of the old or all of the new, also after a
// crash. The file is readable for its owner only; its directory is made when it is missing.
func Write(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of %s: %w", path, err)
	}
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = tmp.Close()           // closed already where that is what failed
			_ = os.Remove(tmp.Name()) // what is left behind has a name that nobody reads
		}
	}()
	if _, err := tmp.Write(data); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := tmp.Sync(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := tmp.Close(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncDir(dir)
}

// syncDir makes a rename last through a crash.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// SaveSet keeps a set of files, by name, in one file at path; see Write.
func SaveSet(path string, set map[string][]byte) error {
	data, err := json.Marshal(set)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return Write(path, data)
}

// LoadSet reads what SaveSet kept. A set that was never kept is nil, without an error.
func LoadSet(path string) (map[string][]byte, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read kept files: %w", err)
	}
	var set map[string][]byte
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("read kept files: %s: %w", path, err)
	}
	return set, nil
}
